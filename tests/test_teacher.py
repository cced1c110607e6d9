"""BERT as a teacher: parity with Hugging Face's, and every way in which its checkpoints are written."""

import json
import shutil

import numpy as np
import pytest
from distillation_golden import PAIRS, load_batch, load_pair
from golden_values import GOLDEN, TOLERANCE
from safetensors.numpy import load_file, save_file

import minialbert_tf as ma
from minialbert_tf.checkpoints.reader import find_weights, read_tensors
from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.models import MiniAlbertForTokenClassification
from minialbert_tf.teacher import (
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    BertModel,
    load_teacher,
    token_classifier_class,
)

TEACHER = GOLDEN / "distillation" / "teacher"


@pytest.fixture
def rewritten(tmp_path):
    """Returns a function that copies the golden teacher with changed tensors."""

    def rewrite(change):
        folder = tmp_path / "rewritten"
        shutil.copytree(TEACHER, folder)
        tensors = {name: np.array(array) for name, array in read_tensors(find_weights(folder)).items()}
        (folder / "pytorch_model.bin").unlink()
        save_file(change(tensors), folder / "model.safetensors")
        return folder

    return rewrite


def largest_difference(teacher, inputs, expected):
    states = teacher.encoder(inputs)
    mask = expected["attention_mask"].astype(bool)
    found = [
        np.abs(hidden - expected[f"teacher_hidden_{k}"])[mask].max() for k, hidden in enumerate(states["hidden_states"])
    ]
    for k, attention in enumerate(states["attentions"]):
        difference = np.abs(attention - expected[f"teacher_attention_{k}"])  # (B, A, L, L)
        found.append(difference.transpose(0, 2, 1, 3)[mask].max())
    found.append(np.abs(teacher(inputs) - expected["teacher_logits"])[mask].max())
    assert len(found) == 2 * teacher.config.num_hidden_layers + 2
    return max(found)


@pytest.mark.parametrize("name", PAIRS)
def test_states_and_logits_are_the_originals(name):
    _, teacher = load_pair(name)
    inputs, _, expected = load_batch(name)
    assert largest_difference(teacher, inputs, expected) <= TOLERANCE["eager"]


def test_layers_in_another_order_are_noticed():
    _, teacher = load_pair("distillation")
    inputs, _, expected = load_batch("distillation")
    first, second = (teacher.encoder.blocks[k].output_dense.kernel for k in (0, 1))
    values = np.array(first)
    first.assign(np.array(second))
    second.assign(values)
    assert largest_difference(teacher, inputs, expected) > 10 * TOLERANCE["eager"]


def without_prefix(tensors):
    return {name.removeprefix("bert."): array for name, array in tensors.items() if not name.startswith("cls.")}


def as_in_old_checkpoints(tensors):
    def old(name):
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    pooler = {
        "bert.pooler.dense.weight": np.ones((48, 48), np.float32),
        "bert.pooler.dense.bias": np.ones(48, np.float32),
    }
    next_sentence = {
        "cls.seq_relationship.weight": np.ones((2, 48), np.float32),
        "cls.seq_relationship.bias": np.ones(2, np.float32),
    }
    return {**{old(name): array for name, array in tensors.items()}, **pooler, **next_sentence}


def with_tied_decoder(tensors):
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    return tensors


@pytest.mark.parametrize("change", [as_in_old_checkpoints, with_tied_decoder])
def test_every_way_of_naming_the_same_model_loads(rewritten, change):
    teacher = load_teacher(rewritten(change))
    assert isinstance(teacher, BertForMaskedLM)
    inputs, _, expected = load_batch("distillation")
    assert largest_difference(teacher, inputs, expected) <= TOLERANCE["eager"]


def test_a_checkpoint_without_head_and_prefix_loads_as_an_encoder(rewritten):
    teacher = load_teacher(rewritten(without_prefix))
    assert isinstance(teacher, BertModel)
    inputs, _, expected = load_batch("distillation")
    mask = expected["attention_mask"].astype(bool)
    difference = np.abs(teacher(inputs)["last_hidden_state"] - expected["teacher_hidden_6"])[mask]
    assert difference.max() <= TOLERANCE["eager"]


def test_a_decoder_of_its_own_is_refused(rewritten):
    def untie(tensors):
        tensors = with_tied_decoder(tensors)
        tensors["cls.predictions.decoder.weight"][0, 0] += 1
        return tensors

    with pytest.raises(CheckpointError, match=r"untied cls.predictions.decoder.weight: must equal bert.embeddings"):
        BertForMaskedLM.from_pretrained(rewritten(untie))


def test_missing_and_left_over_layers_are_listed(rewritten):
    folder = rewritten(lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 7}))
    with pytest.raises(CheckpointError, match=r"missing bert.encoder.layer.6.attention.self.query.weight"):
        BertForMaskedLM.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    with pytest.raises(CheckpointError, match=r"unexpected bert.encoder.layer.5"):
        BertForMaskedLM.from_pretrained(folder)


def test_saving_gives_hugging_faces_names_and_values(tmp_path, rewritten):
    folder = rewritten(as_in_old_checkpoints)
    BertForMaskedLM.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    original = read_tensors(find_weights(TEACHER))
    kept = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    copies = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert saved.keys() == (original.keys() | kept) - copies
    for name in original.keys() - copies:
        np.testing.assert_array_equal(saved[name], original[name], err_msg=name)


def test_a_token_classifier_starts_from_any_bert_and_survives_saving(tmp_path):
    labels = {0: "O", 1: "B-X", 2: "I-X"}
    model = ma.BertForTokenClassification.from_pretrained(TEACHER, id2label=labels)
    assert model.load_report.initialised == ("classifier.bias", "classifier.weight")
    model.save_pretrained(tmp_path / "saved")
    again = BertForTokenClassification.from_pretrained(tmp_path / "saved")
    inputs, _, _ = load_batch("distillation")
    assert again.config.labels == ["O", "B-X", "I-X"]
    assert not again.load_report.initialised
    np.testing.assert_array_equal(model(inputs), again(inputs))
    assert model(inputs).shape == (3, 17, 3)


def test_the_class_of_a_token_classifier_follows_from_the_config(tmp_path):
    assert token_classifier_class(TEACHER) is BertForTokenClassification
    assert token_classifier_class(GOLDEN / "distillation" / "student") is MiniAlbertForTokenClassification
    published = json.loads((GOLDEN / "distillation" / "student" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**published, "model_type": "bert"}))
    assert token_classifier_class(tmp_path) is MiniAlbertForTokenClassification


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_size": 16}, "must not give embedding_size"),
        ({"model_type": "albert"}, "model_type must be one of bert"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be absolute"),
        ({"num_attention_heads": 5}, "num_attention_heads must divide hidden_size"),
    ],
)
def test_configs_of_other_models_are_refused(change, message):
    config = json.loads((TEACHER / "config.json").read_text())
    with pytest.raises(InputError, match=message):
        BertConfig.from_dict({**config, **change})


def test_a_keras_archive_gives_the_same_model(tmp_path):
    from tensorflow import keras

    teacher = BertForMaskedLM.from_pretrained(TEACHER)
    teacher.save(tmp_path / "teacher.keras")
    again = keras.models.load_model(tmp_path / "teacher.keras")
    inputs, _, _ = load_batch("distillation")
    np.testing.assert_array_equal(teacher(inputs), again(inputs))

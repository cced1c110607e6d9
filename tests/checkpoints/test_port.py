"""Loading and saving checkpoints: exact, complete, all or nothing."""

import json
import shutil

import numpy as np
import pytest
from golden_values import GOLDEN, HEADS, inputs_of, load_expected, load_model
from safetensors.numpy import load_file, save_file

from minialbert_tf.checkpoints.port import named_tensors
from minialbert_tf.checkpoints.reader import find_weights, read_tensors
from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.models import (
    MiniAlbertForMaskedLM,
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
)


@pytest.fixture
def checkpoint(tmp_path):
    """A copy of a golden checkpoint that can be changed, with a function that rewrites its tensors."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(GOLDEN / "token_no_adapters", folder)

    def rewrite(change):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return rewrite


@pytest.mark.parametrize("name", HEADS)
def test_saving_gives_the_originals_names_and_values(name, tmp_path):
    original = read_tensors(find_weights(GOLDEN / name))
    model = load_model(name)
    dtype = "float16" if name == "token_fp16" else "float32"
    model.save_pretrained(tmp_path / "saved", dtype=dtype)
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == original.keys()
    for tensor_name, array in original.items():
        assert saved[tensor_name].dtype == array.dtype, tensor_name
        np.testing.assert_array_equal(saved[tensor_name], array, err_msg=tensor_name)

    again = type(model).from_pretrained(tmp_path / "saved")
    for first, second in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    inputs = inputs_of(load_expected(name))
    first, second = model(inputs), again(inputs)
    if isinstance(first, dict):
        first, second = first["last_hidden_state"], second["last_hidden_state"]
    np.testing.assert_array_equal(first, second)


def test_config_survives_a_round_trip(tmp_path):
    load_model("sequence_multi_label").save_pretrained(tmp_path / "saved")
    original = json.loads((GOLDEN / "sequence_multi_label" / "config.json").read_text())
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    differing = {key for key in original if saved.get(key) != original[key]}
    assert differing == set()


def test_masked_lm_to_ner_reports_the_new_head():
    model = MiniAlbertForTokenClassification.from_pretrained(GOLDEN / "masked_lm", num_labels=5)
    assert model.load_report.initialised == ("classifier.bias", "classifier.weight")
    assert "vocab_projector.weight" in model.load_report.ignored
    assert "classifier.weight" in str(model.load_report)
    assert model.classifier.kernel.shape[-1] == 5


def test_a_head_loads_as_an_encoder_and_an_encoder_into_a_head():
    encoder = MiniAlbertModel.from_pretrained(GOLDEN / "token_adapters")
    inputs = inputs_of(load_expected("token_adapters"))
    expected = load_model("token_adapters").encoder(inputs)["last_hidden_state"]
    np.testing.assert_array_equal(encoder(inputs)["last_hidden_state"], expected)
    assert "albert.embeddings.word_embeddings.weight" in named_tensors(encoder)
    head = MiniAlbertForMaskedLM.from_pretrained(GOLDEN / "encoder_only")
    assert len(head.load_report.initialised) == 6


def test_every_fault_is_listed_at_once(checkpoint):
    def break_it(tensors):
        tensors["albert.surprise.weight"] = np.zeros((2, 3), np.float32)
        del tensors["albert.projector.bias"]
        name = "albert.albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
        tensors[name] = np.ascontiguousarray(tensors[name].T)
        tensors["albert.albert.embeddings.LayerNorm.bias"] = np.zeros(16, np.int64)
        tensors["classifier.bias"] = np.zeros(6, np.float32)

    folder = checkpoint(break_it)
    with pytest.raises(CheckpointError) as caught:
        MiniAlbertForTokenClassification.from_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "unexpected albert.surprise.weight (2, 3)",
        "missing albert.projector.bias for encoder.embeddings.projector.bias (48,)",
        "albert_layers.0.ffn.weight for encoder.recursive_encoder.block.intermediate.kernel: expected float (96, 48)",
        "LayerNorm.bias for encoder.embeddings.norm.beta: expected float (16,), received int64 (16,)",
        "classifier.bias for classifier.bias: expected float (5,), received float32 (6,)",
    ):
        assert part in message, part


def test_half_a_head_is_refused(checkpoint):
    folder = checkpoint(lambda tensors: tensors.pop("classifier.bias"))
    with pytest.raises(CheckpointError, match=r"missing classifier\.bias"):
        MiniAlbertForTokenClassification.from_pretrained(folder)
    model = MiniAlbertForTokenClassification.from_pretrained(folder, new_head=True, num_labels=7)
    assert model.classifier.kernel.shape[-1] == 7


def test_adapters_and_config_must_agree(checkpoint):
    folder = checkpoint(lambda tensors: None)
    with pytest.raises(CheckpointError, match=r"missing albert\.att_adapters\.0\.block\.0\.weight"):
        MiniAlbertForTokenClassification.from_pretrained(folder, use_adapter=True)


def test_nothing_is_assigned_when_loading_fails(checkpoint):
    from minialbert_tf.checkpoints.port import load_tensors

    model = load_model("token_no_adapters")
    before = [np.asarray(variable) for variable in model.variables]
    folder = checkpoint(lambda tensors: tensors.pop("albert.projector.bias"))
    tensors = {name: array + 1 for name, array in load_file(folder / "model.safetensors").items()}
    with pytest.raises(CheckpointError):
        load_tensors(model, tensors, "changed")
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.asarray(variable))


def test_saving_refuses_a_used_folder_and_keeps_it_when_it_fails(tmp_path, monkeypatch):
    model = load_model("sequence_regression")
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="must not exist"):
        model.save_pretrained(folder)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minialbert_tf.checkpoints.port.write_safetensors", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder, force=True)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(InputError, match="float32 or float16"):
        load_model("sequence_regression").save_pretrained(tmp_path / "saved", dtype="int8")


def test_a_single_file_loads_with_the_config_beside_it():
    model = MiniAlbertForSequenceClassification.from_pretrained(GOLDEN / "sequence_regression" / "pytorch_model.bin")
    assert model.load_report.initialised == ()

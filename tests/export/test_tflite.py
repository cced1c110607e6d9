import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import transformers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tiny_runs import tiny_config
from tokenizers import Tokenizer

import minialbert_tf as ma
from minialbert_tf.data.conll import label_names, read_conll
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.errors import InputError
from minialbert_tf.export import export_tflite
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.keras_runtime import KerasRuntime
from minialbert_tf.litert_runtime import LiteRTRuntime
from minialbert_tf.tagger import Tagger
from minialbert_tf.tokenization import WordPieceTokenizer

ROOT = Path(__file__).parents[2]
VOCABULARY = ROOT.parent / "shared" / "data" / "vocab" / "bert-base-cased-vocab.txt"
LENGTHS = (16, 48)
TOLERANCE = 1e-4  # of LiteRT in float32
SENTENCES = read_conll(sample_folder() / "test.tsv")
# An F1 of random weights is near 0, and may lose more than a recipe allows.
OPTIONS = {"sequence_lengths": LENGTHS, "data": SENTENCES[:20], "force_quality": True}


@pytest.fixture(scope="module")
def tokenizer():
    train = read_conll(sample_folder() / "train.tsv")
    return WordPieceTokenizer.train((" ".join(each.words) for each in train), 600, lowercase=True)


@pytest.fixture(scope="module")
def model(tokenizer):
    config = tiny_config(
        vocab_size=len(tokenizer.vocabulary),
        embedding_size=16,
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
        id2label=dict(enumerate(label_names(SENTENCES))),
    )
    model = ma.MiniAlbertForTokenClassification(config)
    model.tokenizer = tokenizer
    return model


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The model as a file of each quantisation; in shown.txt what a terminal showed meanwhile."""
    folder = tmp_path_factory.mktemp("tflite")
    terminal, screen = os.openpty()
    termios.tcsetwinsize(screen, (24, 80))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minialbert_tf.export.conversion._STANDARD_ERROR", screen)
        for quantization in ("none", "int8"):
            export_tflite(model, folder / f"{quantization}.tflite", quantization=quantization, **OPTIONS)
    (folder / "shown.txt").write_bytes(os.read(terminal, 1 << 16))
    os.close(screen)
    os.close(terminal)
    model.tokenizer.save(folder)
    return folder


def test_progress_is_shown_on_a_terminal(files):
    shown = (files / "shown.txt").read_text()
    for stage in ("converting", "quantising: int8", "verifying"):
        assert f"{stage} …" in shown
    assert "F1 of quantized.tflite: 100%" in shown


def sequences_of(model):
    generator = random.Random(0)
    lengths = [2, 3, *LENGTHS, *(length + 1 for length in LENGTHS[:-1]), LENGTHS[-1] - 1]
    return [[2, *(generator.randrange(5, model.config.vocab_size) for _ in range(n - 2)), 3] for n in lengths]


def difference(runtime, model, sequences):
    """Largest difference between a file and Keras, which sees each sequence without padding."""
    outputs = runtime.predict(sequences)
    expected = [np.asarray(model({"input_ids": np.array([each], np.int32)}))[0] for each in sequences]
    return max(np.abs(one - other).max() for one, other in zip(outputs, expected, strict=True))


def content(path):
    """The flatbuffer of a file, parsed."""
    card = read_bundle(path).card
    return schema.ModelT.InitFromPackedBuf(path.read_bytes()[: card.model_bytes], 0)


def test_float32_agrees_with_keras_in_every_bucket(files, model):
    runtime = LiteRTRuntime(files / "none.tflite")
    assert difference(runtime, model, sequences_of(model)) < TOLERANCE


def test_one_perturbed_weight_is_noticed(files, model):
    kernel = model.encoder.recursive_encoder.feed_forward_adapters[-1].down.kernel
    before = np.asarray(kernel)
    changed = before.copy()
    changed[0, 0] += 0.1
    kernel.assign(changed)
    try:
        assert difference(LiteRTRuntime(files / "none.tflite"), model, sequences_of(model)) > 10 * TOLERANCE
    finally:
        kernel.assign(before)


def test_int8_mostly_gives_the_same_tags(files, model):
    pieces = [model.tokenizer.encode_words(each.words).ids[: LENGTHS[-1] - 2] for each in SENTENCES]
    sequences = [[2, *ids, 3] for ids in pieces]
    small, whole = LiteRTRuntime(files / "int8.tflite"), KerasRuntime(model)
    outputs, expected = (runtime.predict(sequences) for runtime in (small, whole))
    found, wanted = (np.concatenate(each).argmax(axis=-1) for each in (outputs, expected))
    assert np.mean(found == wanted) > 0.9
    assert len(set(wanted.tolist())) > 2
    assert np.abs(np.concatenate(outputs) - np.concatenate(expected)).max() > TOLERANCE  # it is quantised


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_only_built_in_operators(files, quantization):
    codes = content(files / f"{quantization}.tflite").operatorCodes
    assert codes
    assert [code.customCode for code in codes if code.customCode] == []
    assert schema.BuiltinOperator.CUSTOM not in {max(code.builtinCode, code.deprecatedBuiltinCode) for code in codes}


def test_all_signatures_and_recursions_share_the_weights(files, model):
    parsed = content(files / "none.tflite")
    assert [signature.signatureKey.decode() for signature in parsed.signatureDefs] == ["length_16", "length_48"]
    size = sum(len(buffer.data) for buffer in parsed.buffers if buffer.data is not None)
    weights = 4 * model.count_params()
    assert 0.9 * weights < size < 1.2 * weights  # each signature has its part of the position table for itself
    small = sum(len(buffer.data) for buffer in content(files / "int8.tflite").buffers if buffer.data is not None)
    assert small < 0.4 * weights


def test_the_same_model_gives_the_same_bytes(files, model, tmp_path):
    path = tmp_path / "again.tflite"
    path.write_text("mine")
    tokenizer = Tokenizer.from_file(str(files / "tokenizer.json"))
    with pytest.raises(InputError, match="must not exist yet"):
        export_tflite(model, path, tokenizer)
    assert path.read_text() == "mine"
    export_tflite(
        model, path, tokenizer, quantization="int8", force=True, **{**OPTIONS, "sequence_lengths": LENGTHS[::-1]}
    )
    assert path.read_bytes() == (files / "int8.tflite").read_bytes()
    assert (tmp_path / "again.tflite.json").read_bytes() == (files / "int8.tflite.json").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again.tflite", "again.tflite.json"]


def test_the_report_is_of_this_file(files, model):
    report = json.loads((files / "int8.tflite.json").read_text())
    file = (files / "int8.tflite").read_bytes()
    assert report["file"] == {"bytes": len(file), "sha256": hashlib.sha256(file).hexdigest()}
    assert report["sequence_lengths"] == list(LENGTHS) and report["recursions"] == model.config.num_hidden_layers
    assert report["operators"]["EMBEDDING_LOOKUP"] == len(LENGTHS) * 3  # words, their scales, positions
    constants = sum(part["bytes"] for part in report["weights"]["parts"].values()) + report["weights"]["other_bytes"]
    assert constants == sum(
        len(buffer.data) for buffer in content(files / "int8.tflite").buffers if buffer.data is not None
    )
    assert report["model"]["bytes"] - constants < len(LENGTHS) * 25_000  # the graph
    assert all(each["floats"] < TOLERANCE < each["quantized"] for each in report["difference_from_keras"].values())
    assert 0.9 < report["agreement"]["same"] <= 1 and report["agreement"]["decisions"] > 500
    assert report["f1"]["sentences"] == 20 and abs(report["f1"]["floats"] - report["f1"]["quantized"]) < 0.1


def test_weights_are_aligned_for_the_hardware(files):
    raw = (files / "int8.tflite").read_bytes()
    root = schema.Model.GetRootAs(raw, 0)
    for index in range(root.BuffersLength()):
        buffer = root.Buffers(index)
        if buffer.DataLength():
            address = buffer.DataAsNumpy().__array_interface__["data"][0]
            start = np.frombuffer(raw, np.uint8).__array_interface__["data"][0]
            assert (address - start) % 16 == 0


def test_the_file_holds_what_tagging_needs(files, model):
    bundle = read_bundle(files / "int8.tflite")
    assert bundle.tokenizer.vocabulary == model.tokenizer.vocabulary
    assert list(bundle.card.labels) == model.config.labels
    assert (bundle.card.sequence_lengths, bundle.card.quantization) == (LENGTHS, "int8")
    assert bundle.config == model.config.to_dict()


def test_the_tagger_gives_the_same_entities_as_keras(model, files):
    texts = [" ".join(each.words) for each in SENTENCES]
    texts += [" ".join(texts), "", "\x00", "x" * 5000]
    limited = KerasRuntime(model)
    limited.max_length = LENGTHS[-1]  # the same windows
    expected = Tagger(model.tokenizer, model.config.labels, limited)(texts)
    with Tagger.from_tflite(files / "none.tflite") as tagger:
        found = tagger(texts)
    assert sum(map(len, expected)) > 200
    for one, other in zip(found, expected, strict=True):
        assert [dataclasses.replace(entity, score=0) for entity in one] == [
            dataclasses.replace(entity, score=0) for entity in other
        ]
        assert [entity.score for entity in one] == pytest.approx([entity.score for entity in other], abs=TOLERANCE)


def test_sequence_classification_runs_in_the_interpreter(files, model, tmp_path):
    classifier = ma.MiniAlbertForSequenceClassification(model.config.replace(num_labels=3))
    path = tmp_path / "classifier.tflite"
    tokenizer = transformers.AutoTokenizer.from_pretrained(files)
    export_tflite(classifier, path, tokenizer, quantization="none", sequence_lengths=(16,))
    assert read_bundle(path).card.task == "text-classification"
    assert read_bundle(path).tokenizer.vocabulary == model.tokenizer.vocabulary
    interpreter = Interpreter(str(path))
    runner = interpreter.get_signature_runner("length_16")
    inputs = {
        "input_ids": np.array([[2, 9, 12, 3, 40, 3, *[0] * 10]], np.int32),
        "attention_mask": np.array([[1] * 6 + [0] * 10], np.int32),
        "token_type_ids": np.array([[0] * 4 + [1] * 2 + [0] * 10], np.int32),
    }
    logits = runner(**inputs)["logits"]
    assert logits.shape == (1, 3)
    assert np.abs(logits - np.asarray(classifier(inputs))).max() < TOLERANCE
    one_text = {**inputs, "token_type_ids": 0 * inputs["token_type_ids"]}
    assert np.abs(logits - np.asarray(classifier(one_text))).max() > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantization": "int3"}, r"quantization must be one of .*Received: 'int3'"),
        ({"sequence_lengths": ()}, r"sequence_lengths must be .*Received: \[\]"),
        ({"sequence_lengths": (7,)}, r"sequence_lengths must be different integers from 8 to .*=64\. Received: \[7\]"),
        ({"sequence_lengths": (16, 65)}, r"sequence_lengths must be .*Received: \[16, 65\]"),
        ({"sequence_lengths": (16, 16)}, r"sequence_lengths must be .*Received: \[16, 16\]"),
        ({"sequence_lengths": (16.0,)}, r"sequence_lengths must be .*Received: \[16.0\]"),
        ({"tokenizer": 3, "sequence_lengths": (16,)}, r"A tokenizer must be .*Received: int"),
        ({"tokenizer": "no/such/folder", "sequence_lengths": (16,)}, r"A tokenizer must be .*Received: no/such/folder"),
    ],
)
def test_bad_arguments_are_named(model, arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_tflite(model, tmp_path / "ner.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_exported_are_named(model, tokenizer, tmp_path):
    with pytest.raises(InputError, match="Received: MiniAlbertModel"):
        export_tflite(model.encoder, tmp_path / "ner.tflite", tokenizer)
    bare = ma.MiniAlbertForTokenClassification(model.config)
    with pytest.raises(InputError, match="has no tokenizer"):
        export_tflite(bare, tmp_path / "ner.tflite", sequence_lengths=(16,))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_converter_leaves_nothing(model, monkeypatch, tmp_path):
    def fail(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nConverterError: needs Flex ops\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(InputError, match=r"failed with status 1: ConverterError: needs Flex ops"):
        export_tflite(model, tmp_path / "ner.tflite", sequence_lengths=(16,))
    assert list(tmp_path.iterdir()) == []


def test_exporting_works_from_any_folder(monkeypatch, tmp_path):
    """The converter's process finds the package by itself, and only the package."""
    seen = {}

    def record(command, env, **options):
        seen.update(env)
        return subprocess.CompletedProcess(command, 1, "", "stop")

    monkeypatch.setattr(subprocess, "run", record)
    model = ma.MiniAlbertForTokenClassification(tiny_config(num_hidden_layers=1))
    tokenizer = WordPieceTokenizer.train(["some words"], 60, lowercase=True)
    with pytest.raises(InputError, match="stop"):
        export_tflite(model, tmp_path / "ner.tflite", tokenizer, sequence_lengths=(16,))
    monkeypatch.undo()
    assert seen["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    command = [sys.executable, "-c", "import minialbert_tf.export.bundle"]
    subprocess.run(command, env=seen, cwd=tmp_path, check=True)


@pytest.mark.slow
@pytest.mark.skipif(not VOCABULARY.is_file(), reason="needs ../shared")
@pytest.mark.parametrize(
    ("quantization", "lengths", "megabytes"),
    [
        ("int8", (128,), 12.2),
        ("int8", (32, 64, 128, 256, 512), 12.4),
        ("int4", (128,), 7.0),
        ("none", (32, 64, 128, 256, 512), 48.0),
    ],
)
def test_a_full_size_model_is_small(quantization, lengths, megabytes, tmp_path):
    tokenizer = WordPieceTokenizer.from_pretrained(VOCABULARY, lowercase=False)
    model = ma.MiniAlbertForTokenClassification(ma.MiniAlbertConfig(id2label=dict(enumerate(label_names(SENTENCES)))))
    assert len(tokenizer.vocabulary) == model.config.vocab_size == 28996
    generator = np.random.default_rng(0)
    for variable in model.variables:  # zeros and ones of a new model would share a place
        if len(variable.shape) == 1:
            variable.assign(np.asarray(variable) + generator.normal(0, 0.02, variable.shape))
    path = tmp_path / "ner.tflite"
    report = export_tflite(
        model, path, tokenizer, quantization=quantization, sequence_lengths=lengths, force_quality=True
    )
    assert report.card.model_bytes <= megabytes * 1e6
    if quantization == "none":
        sequences = [[101, *range(200, 200 + length - 2), 102] for length in (5, 64, 65, 128, 129, 256, 512)]
        assert difference(LiteRTRuntime(path), model, sequences) < TOLERANCE

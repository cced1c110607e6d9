"""Recipes that store activations as integers, too; they need ai-edge-quantizer."""

import numpy as np
import pytest

import minialbert_tf as ma
from minialbert_tf.errors import InputError
from minialbert_tf.export import export_tflite
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.export.flatbuffer import kind_of, read_model, schema
from minialbert_tf.keras_runtime import KerasRuntime
from minialbert_tf.litert_runtime import LiteRTRuntime

OPTIONS = {"sequence_lengths": (16, 32), "force_quality": True}  # weights are random


@pytest.fixture(scope="module")
def calm_model(tiny_tagger):
    """A model in which small differences stay small, as in trained ones."""
    model = ma.MiniAlbertForTokenClassification(tiny_tagger.config.replace(initializer_range=0.1))
    model.tokenizer = tiny_tagger.tokenizer
    return model


@pytest.fixture(scope="module", params=["int8-static", "int16x8"])
def exported(request, calm_model, tmp_path_factory):
    pytest.importorskip("ai_edge_quantizer")
    path = tmp_path_factory.mktemp("calibrated") / "ner.tflite"
    return path, export_tflite(calm_model, path, quantization=request.param, **OPTIONS)


def test_all_but_lookups_computes_in_integers(exported):
    path, report = exported
    content = read_model(path.read_bytes()[: read_bundle(path).card.model_bytes])
    wanted = {8: schema.TensorType.INT8, 16: schema.TensorType.INT16}[report.recipe.activation_bits]
    in_floats = {"EMBEDDING_LOOKUP", "CAST", "DEQUANTIZE"}  # from the mask, and to the logits
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    for subgraph in content.subgraphs:
        for operator in subgraph.operators:
            kind = names[kind_of(content.operatorCodes[operator.opcodeIndex])]
            given = subgraph.tensors[operator.outputs[0]].type
            assert (given == schema.TensorType.FLOAT32) == (kind in in_floats), kind
            assert given in (wanted, schema.TensorType.FLOAT32, schema.TensorType.INT32)


def test_logits_stay_near_keras(exported, calm_model):
    path, report = exported
    generator = np.random.default_rng(0)
    sequences = [generator.integers(5, calm_model.config.vocab_size, size).tolist() for size in (3, 16, 17, 32)]
    expected = np.concatenate(KerasRuntime(calm_model).predict(sequences))
    found = np.concatenate(LiteRTRuntime(path).predict(sequences))
    error = np.abs(found - expected).mean() / np.abs(expected).mean()
    assert 1e-4 < error < (0.5 if report.recipe.activation_bits == 8 else 0.05)
    assert report.measured.agreement.same > 0.9  # 0.4 if there were no relation


def test_the_weights_are_8_bit_integers(exported):
    _, report = exported
    assert {part.bits for part in report.measured.weights.parts.values()} == {8}


def test_other_graphs_are_refused(tiny_tagger, tmp_path):
    for options in ({"graph": "loop"}, {"dynamic": True}):
        with pytest.raises(InputError, match=r"int8-static fixes .* unrolled graph and fixed lengths"):
            export_tflite(tiny_tagger, tmp_path / "x.tflite", quantization="int8-static", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(tiny_tagger, tmp_path, monkeypatch):
    monkeypatch.setattr("minialbert_tf.export.tflite.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"int16x8 needs ai-edge-quantizer: pip install 'minialbert-tf\[calibration\]'"
    ):
        export_tflite(tiny_tagger, tmp_path / "x.tflite", quantization="int16x8")


def test_texts_for_other_quantizations_are_refused(tiny_tagger, tmp_path):
    with pytest.raises(InputError, match=r"calibration is for int8-static and int16x8. Received: int8"):
        export_tflite(tiny_tagger, tmp_path / "x.tflite", calibration=["a text"])


def test_the_texts_decide_the_ranges(tiny_tagger, tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_quantizer")
    seen = []

    def stop(model, tokenizer, conversion, checks):
        seen.append(conversion.calibration)
        raise InputError("stop")

    monkeypatch.setattr("minialbert_tf.export.tflite.convert", stop)
    for texts in (None, ["aspirin"], iter(["aspirin", "asthma"])):
        with pytest.raises(InputError, match="stop"):
            export_tflite(tiny_tagger, tmp_path / "x.tflite", quantization="int8-static", calibration=texts)
    ids = [tuple(tiny_tagger.tokenizer.encode(text).ids) for text in ("aspirin", "aspirin asthma")]
    assert seen[1:] == ids and len(seen[0]) > 500


def test_sequences_leave_room_for_padding(tiny_tagger):
    pytest.importorskip("ai_edge_quantizer")
    from minialbert_tf.export.calibrate import _inputs

    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = list(_inputs(range(5, 60), 16, names, tiny_tagger.tokenizer))
    assert [each["attention_mask"].sum() for each in inputs] == [15, 15, 15, 15, 5]
    assert [each["token_type_ids"].sum() for each in inputs] == [0, 7, 0, 7, 0]
    assert all(array.shape == (1, 16) and array.dtype == np.int32 for each in inputs for array in each.values())
    assert [i for each in inputs for i in each["input_ids"][each["attention_mask"] == 1][1:-1]] == list(range(5, 60))

"""Files with other graphs than the default, run by LiteRT and compared with Keras."""

import random

import numpy as np
import pytest
from tiny_runs import tiny_config

import minialbert_tf as ma
from minialbert_tf.data.conll import label_names, read_conll
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.errors import InputError
from minialbert_tf.export import export_tflite
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.export.flatbuffer import kind_of, read_model, schema
from minialbert_tf.litert_runtime import LiteRTRuntime
from minialbert_tf.tagger import Tagger
from minialbert_tf.tokenization import WordPieceTokenizer

TOLERANCE = 1e-4
SENTENCES = read_conll(sample_folder() / "test.tsv")


@pytest.fixture(scope="module")
def model():
    tokenizer = WordPieceTokenizer.train((" ".join(each.words) for each in SENTENCES), 300, lowercase=True)
    config = tiny_config(
        vocab_size=len(tokenizer.vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        max_position_embeddings=48,
        initializer_range=0.2,
        id2label=dict(enumerate(label_names(SENTENCES))),
    )
    model = ma.MiniAlbertForTokenClassification(config)
    model.tokenizer = tokenizer
    return model


def sequences_of(model, lengths=(2, 3, 16, 17, 47, 48)):
    generator = random.Random(0)
    return [[2, *(generator.randrange(5, model.config.vocab_size) for _ in range(n - 2)), 3] for n in lengths]


def differences(path, model, recursions):
    """Returns the largest difference from Keras for each sequence."""
    sequences = sequences_of(model)
    outputs = LiteRTRuntime(path).predict(sequences)
    for sequence, output in zip(sequences, outputs, strict=True):
        states = model.encoder({"input_ids": np.array([sequence], np.int32)})["hidden_states"]
        yield np.abs(output - np.asarray(model.classifier(states[recursions]))[0]).max()


def operators(path):
    card = read_bundle(path).card
    codes = read_model(path.read_bytes()[: card.model_bytes]).operatorCodes
    return {kind_of(code) for code in codes}


@pytest.mark.parametrize(
    ("graph", "dynamic", "recursions"),
    [("loop", False, None), ("unrolled", True, None), ("loop", True, 2), ("loop", False, 1), ("unrolled", False, 2)],
)
def test_it_agrees_with_keras(model, tmp_path, graph, dynamic, recursions):
    path = tmp_path / "ner.tflite"
    options = {"graph": graph, "dynamic": dynamic, "recursions": recursions}
    card = export_tflite(model, path, quantization="none", sequence_lengths=(16, 48), **options).card
    assert card.sequence_lengths == ((48,) if dynamic else (16, 48))
    applied = recursions or 3
    assert max(differences(path, model, applied)) < TOLERANCE
    assert min(differences(path, model, applied - 1 or 2)) > 10 * TOLERANCE  # the control
    assert read_bundle(path).config["num_hidden_layers"] == applied
    assert (schema.BuiltinOperator.WHILE in operators(path)) == (graph == "loop")


@pytest.mark.parametrize("graph", ["unrolled", "loop"])
def test_a_free_length_is_no_different_from_fixed_ones(model, tmp_path, graph):
    texts = [" ".join(each.words) for each in SENTENCES[:20]]
    texts += [" ".join(texts), "", "x" * 3000]
    found = []
    for dynamic in (False, True):
        path = tmp_path / f"{dynamic}.tflite"
        export_tflite(model, path, sequence_lengths=(48,), graph=graph, dynamic=dynamic)
        with Tagger.from_tflite(path) as tagger:
            found.append([[(entity.start, entity.end, entity.label) for entity in each] for each in tagger(texts)])
    assert sum(map(len, found[0])) > 50
    assert found[0] == found[1]


def test_the_default_lengths_end_with_the_model(model, tmp_path):
    card = export_tflite(model, tmp_path / "ner.tflite").card
    assert card.sequence_lengths == (32, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "rolled"}, r"graph must be one of unrolled, loop. Received: 'rolled'"),
        ({"recursions": 0}, r"recursions must be a number from 1 to num_hidden_layers=3. Received: 0"),
        ({"recursions": 4}, r"recursions must be .* Received: 4"),
        ({"recursions": True}, r"recursions must be .* Received: True"),
    ],
)
def test_bad_arguments_are_named(model, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        export_tflite(model, tmp_path / "ner.tflite", **arguments)
    assert list(tmp_path.iterdir()) == []

import json

import numpy as np
import pytest
import tensorflow as tf
from serving_export import CLASSES, LENGTH, TEXTS, config, load, text_export, text_model, with_loud_weights

import minialbert_tf as ma
from minialbert_tf.data.features import text_examples
from minialbert_tf.data.tables import Row
from minialbert_tf.export.serving.text_graph import TextGraph, shorten

pytest.importorskip("tensorflow_text")

TOLERANCE = 1e-5
LONG = " ".join(TEXTS)
PAIRS = [(TEXTS[2], TEXTS[3]), ("", ""), (LONG, "short"), ("short", LONG), (LONG, LONG), ("a", LONG[:90])]


def signature(name):
    return load(text_export()).signatures[name]


def expected(texts, pairs=None):
    """Returns the logits and the numbers of pieces cut off, one text at a time and as training sees it."""
    model, results = text_model(), []
    for text, pair in zip(texts, pairs or [None] * len(texts), strict=True):
        (example,), _ = text_examples([Row(text, pair, "neutral")], model.tokenizer, {"neutral": 0}, LENGTH)
        whole = sum(len(model.tokenizer.encode(part).ids) for part in (text, pair) if part is not None)
        inputs = {"input_ids": tf.constant([example.ids])}
        if example.type_ids is not None:
            inputs["token_type_ids"] = tf.constant([example.type_ids])
        logits = model(inputs).numpy()[0]
        results.append((logits, whole + 2 + (pair is not None) - len(example.ids)))
    return np.array([logits for logits, _ in results]), [dropped for _, dropped in results]


def check(outputs, logits, dropped):
    outputs = {name: value.numpy() for name, value in outputs.items()}
    scores = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(outputs["scores"], scores, atol=TOLERANCE)
    assert outputs["label_ids"].tolist() == logits.argmax(axis=-1).tolist()
    assert outputs["labels"].tolist() == [CLASSES[label].encode() for label in outputs["label_ids"]]
    assert outputs["dropped_pieces"].tolist() == dropped
    assert {name: value.dtype for name, value in outputs.items() if name != "labels"} == {
        "label_ids": np.int32,
        "scores": np.float32,
        "dropped_pieces": np.int32,
    }


def test_texts():
    texts = ["", *TEXTS, LONG]
    logits, dropped = expected(texts)
    assert len(set(logits.argmax(axis=-1))) == len(CLASSES) and max(dropped) > 0 and min(dropped) == 0
    check(signature("serving_default")(text=tf.constant(texts)), logits, dropped)


def test_pairs():
    texts, pairs = map(list, zip(*PAIRS, strict=True))
    logits, dropped = expected(texts, pairs)
    check(signature("pairs")(text=tf.constant(texts), text_pair=tf.constant(pairs)), logits, dropped)
    swapped = signature("pairs")(text=tf.constant(pairs), text_pair=tf.constant(texts))
    assert np.abs(swapped["scores"].numpy()[0] - np.exp(logits[0]) / np.exp(logits[0]).sum()).max() > 1e-3


def test_no_texts():
    outputs = signature("serving_default")(text=tf.zeros([0], tf.string))
    assert {value.shape[0] for value in outputs.values()} == {0}


def test_texts_without_pairs_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError):
        signature("pairs")(text=tf.constant(["a", "b"]), text_pair=tf.constant(["c"]))


def test_tokens_find_the_second_text_themselves():
    tokenizer = text_model().tokenizer
    ids = [tokenizer.cls_id, 20, 21, tokenizer.sep_id, 22, tokenizer.sep_id]
    types = [0, 0, 0, 0, 1, 1]
    logits = signature("tokens")(input_ids=tf.constant([[*ids, 0, 0]]), lengths=tf.constant([len(ids)]))["logits"]
    inputs = {"input_ids": tf.constant([ids]), "token_type_ids": tf.constant([types])}
    np.testing.assert_allclose(logits, text_model()(inputs), atol=TOLERANCE)
    assert np.abs(logits - text_model()({"input_ids": tf.constant([ids])})).max() > 1e-3


def test_pairs_are_cut_as_in_training():
    random = np.random.default_rng(0)
    counts = random.integers(0, 200, (500, 2)).astype(np.int32)
    found = np.stack(shorten([tf.constant(counts[:, 0]), tf.constant(counts[:, 1])], 29), axis=1)
    for (first, second), cut in zip(counts, found, strict=True):
        lengths = [first, second]
        while sum(lengths) > 29:  # text_examples
            lengths[lengths.index(max(lengths))] -= 1
        assert cut.tolist() == lengths


def test_label_map():
    label_map = json.loads((text_export() / "assets" / "labels.json").read_text(encoding="utf-8"))
    assert label_map == {"labels": CLASSES, "problem_type": "single_label_classification"}


@pytest.mark.parametrize(
    ("changes", "problem_type", "activation"),
    [
        ({"num_labels": 1}, "regression", lambda logits: logits),
        ({"problem_type": "regression", "num_labels": 2}, "regression", lambda logits: logits),
        ({"problem_type": "multi_label_classification"}, "multi_label_classification", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_scores_of_other_problems(changes, problem_type, activation):
    model = with_loud_weights(ma.MiniAlbertForSequenceClassification(config(**changes, type_vocab_size=1)))
    graph = TextGraph(model, model.tokenizer)
    assert graph.label_map["problem_type"] == problem_type
    assert sorted(graph.signatures()) == ["serving_default", "tokens"]  # no pairs without a second type
    outputs = graph.signatures()["serving_default"](tf.constant(["Aspirin helps."]))
    ids = model.tokenizer.encode("Aspirin helps.").ids
    logits = model({"input_ids": tf.constant([[model.tokenizer.cls_id, *ids, model.tokenizer.sep_id]])}).numpy()
    np.testing.assert_allclose(outputs["scores"], activation(logits), atol=TOLERANCE)

import numpy as np
import pytest
import tensorflow as tf

from minialbert_tf.export.serving.decode_graph import EntityDecoder, entity_types
from minialbert_tf.ner import decode_spans

LABELS = ["B-Disease", "I-Chemical", "O", "I-Disease", "B-Chemical", "I-Gene"]


def decode(label_ids_of_texts, scores=None):
    lengths = [len(label_ids) for label_ids in label_ids_of_texts]
    texts = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    flat = np.array([label for labels in label_ids_of_texts for label in labels], np.int32)
    places = np.concatenate([np.arange(length) for length in [0, *lengths]]).astype(np.int32)
    scores = np.ones(len(flat), np.float32) if scores is None else np.array(scores, np.float32)
    outputs = EntityDecoder(LABELS)(flat, scores, texts, 10 * places, 10 * places + 5, tf.constant(len(lengths)))
    return {name: value.numpy() for name, value in outputs.items()}


def spans(outputs):
    return [
        [
            (label.decode(), start // 10, end // 10 + 1)
            for label, start, end in zip(
                *(outputs[name][index][:length] for name in ("labels", "starts", "ends")), strict=True
            )
        ]
        for index, length in enumerate(outputs["lengths"])
    ]


def test_spans_equal_those_of_the_tagger():
    random = np.random.default_rng(0)
    texts = [random.integers(0, len(LABELS), random.integers(0, 30)).tolist() for _ in range(500)]
    outputs = decode(texts)
    assert spans(outputs) == [[tuple(span) for span in decode_spans([LABELS[i] for i in text])] for text in texts]
    assert max(map(len, texts)) >= outputs["starts"].shape[1] == outputs["lengths"].max()


def test_an_entity_ends_with_its_text():
    disease = LABELS.index("I-Disease")
    assert spans(decode([[disease, disease], [disease]])) == [[("Disease", 0, 2)], [("Disease", 0, 1)]]


def test_the_score_is_the_mean_of_the_words():
    outputs = decode([[0, 3, 2, 4]], scores=[0.5, 1.0, 0.1, 0.25])
    assert outputs["scores"].tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize("texts", [[[]], [[], [2, 2]], []])
def test_without_entities_there_is_one_column_of_padding(texts):
    outputs = decode(texts)
    for name, padding in (("label_ids", -1), ("labels", b""), ("scores", -1), ("starts", -1), ("ends", -1)):
        assert outputs[name].shape == (len(texts), 1)
        assert (outputs[name] == padding).all()
    assert outputs["lengths"].tolist() == [0] * len(texts)


def test_padding_and_types():
    outputs = decode([[0, 4, 4], [5]])
    assert outputs["label_ids"].tolist() == [[0, 1, 1], [2, -1, -1]]
    assert outputs["labels"].tolist() == [[b"Disease", b"Chemical", b"Chemical"], [b"Gene", b"", b""]]
    assert outputs["ends"].tolist() == [[5, 15, 25], [5, -1, -1]]
    dtypes = {name: value.dtype for name, value in outputs.items() if name != "labels"}
    assert dtypes == dict.fromkeys(("label_ids", "starts", "ends", "lengths"), np.int32) | {"scores": np.float32}


def test_types_are_numbered_as_the_labels_name_them():
    assert entity_types(LABELS) == ["Disease", "Chemical", "Gene"]
    assert entity_types(["O"]) == []
    assert decode([[2]])["label_ids"].tolist() == [[-1]]

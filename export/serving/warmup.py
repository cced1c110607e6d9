"""Warm-up requests: what a model server runs through a new version before it answers with it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
BATCH_SIZES = (1, 8, 32)
# About 25, 120 and 500 pieces of a biomedical vocabulary: a sentence, a paragraph, and what fills the model.
SENTENCES = (1, 5, 20)

_SENTENCE = (
    "Naloxone reversed the antihypertensive effect of clonidine in spontaneously hypertensive rats, but not 2 h later. "
)
_PIECES_PER_SENTENCE = 25
_PIECE_ID = 5

_LENGTH_DELIMITED = 2  # wire type of strings and messages


def write_warmup(path: Path, model_name: str, signatures: Sequence[str], max_length: int) -> None:
    """Writes one record for each signature, batch size and length of text.

    Args:
        path: NAME/VERSION/assets.extra/tf_serving_warmup_requests.
        model_name: NAME.
        signatures: Names of the signatures, of those that `export_saved_model` lists.
        max_length: Longest sequence that the model takes.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            for inputs in _inputs(signature, max_length):
                writer.write(_prediction_log(model_name, signature, inputs))


def _inputs(signature: str, max_length: int) -> Iterator[dict[str, tf.Tensor]]:
    for size in BATCH_SIZES:
        for sentences in SENTENCES:
            if signature == "tokens":
                length = min(sentences * _PIECES_PER_SENTENCE, max_length)
                ids = tf.fill([size, length], _PIECE_ID)
                yield {"input_ids": ids, "lengths": tf.fill([size], length)}
            else:
                names = ("text", "text_pair") if signature == "pairs" else ("text",)
                yield {name: tf.fill([size], _SENTENCE * sentences) for name in names}


def _prediction_log(model_name: str, signature: str, inputs: dict[str, tf.Tensor]) -> bytes:
    """Encodes a tensorflow.serving.PredictionLog by hand, which spares the exporter tensorflow-serving-api."""
    model = _field(1, model_name.encode()) + _field(3, signature.encode())  # ModelSpec: name, signature_name
    request = _field(1, model)  # PredictRequest: model_spec, map inputs
    for name, tensor in sorted(inputs.items()):
        proto = tf.make_tensor_proto(tensor).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, proto))
    return _field(6, _field(1, request))  # PredictionLog: predict_log; PredictLog: request


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])

"""Token classification as a graph from strings to entities."""

import tensorflow as tf

from minialbert_tf.errors import InputError
from minialbert_tf.export.serving import windows_graph
from minialbert_tf.export.serving.decode_graph import EntityDecoder
from minialbert_tf.export.serving.sequences_graph import checked_texts, masked_inputs, sequences
from minialbert_tf.export.serving.steps_graph import run_in_steps
from minialbert_tf.export.serving.tokenizer_graph import GraphTokenizer
from minialbert_tf.models import MiniAlbertForTokenClassification
from minialbert_tf.tagger import checked_labels
from minialbert_tf.tokenization import WordPieceTokenizer


class TokenGraph:
    """The functions behind the signatures of a token classifier."""

    def __init__(self, model: MiniAlbertForTokenClassification, tokenizer: WordPieceTokenizer) -> None:
        """Takes the model, whose weights the graph shares, and its tokenizer.

        Raises:
            InputError: If the labels are not IOB2, the model is too short for windows, or tensorflow-text is missing.
        """
        self._model = model
        self._capacity = model.config.max_position_embeddings - 2
        if self._capacity < 4:
            raise InputError(f"max_position_embeddings must be at least 6. Received: {self._capacity + 2}")
        self._decode = EntityDecoder(checked_labels(model.config.labels))
        self._tokenize = GraphTokenizer(tokenizer)
        self._tokenizer = tokenizer
        self.label_map = {"labels": model.config.labels, "entity_types": self._decode.entity_types}

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Returns the functions by signature name."""
        return {
            "serving_default": tf.function(self._find, [tf.TensorSpec([None], tf.string, "text")]),
            "tokens": tf.function(
                self._logits,
                [tf.TensorSpec([None, None], tf.int32, "input_ids"), tf.TensorSpec([None], tf.int32, "lengths")],
            ),
        }

    def _find(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        words = self._tokenize(checked_texts(text))
        windows = windows_graph.plan(words.piece_counts, self._capacity)

        def step(rows: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            segment = (tf.gather(windows.starts, rows), tf.gather(windows.lengths, rows))
            logits = self._model(sequences(words.piece_ids, [segment], length, self._tokenizer), training=False)
            label_ids, scores = decide(logits)
            return tf.reshape(label_ids, [-1]), tf.reshape(scores, [-1])

        (label_ids, scores), offsets = run_in_steps(windows.lengths + 2, step, (tf.int32, tf.float32))
        window, place = windows_graph.owners(
            windows, words.first_pieces, words.texts, words.piece_counts, self._capacity
        )
        at = tf.gather(offsets, window) + 1 + place  # after [CLS]
        return self._decode(
            tf.gather(label_ids, at), tf.gather(scores, at), words.texts, words.starts, words.ends, tf.size(text)
        )

    def _logits(self, input_ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": self._model(masked_inputs(input_ids, lengths), training=False)}


def decide(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the argmax, int32, and its softmax probability along the last axis."""
    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    return tf.argmax(logits, axis=-1, output_type=tf.int32), 1.0 / tf.reduce_sum(tf.exp(shifted), axis=-1)

"""Classification and regression of texts and pairs of texts as a graph from strings to labels and scores."""

import tensorflow as tf

from minialbert_tf.export.serving.sequences_graph import checked_texts, masked_inputs, sequences
from minialbert_tf.export.serving.steps_graph import run_in_steps
from minialbert_tf.export.serving.tokenizer_graph import GraphTokenizer
from minialbert_tf.models import MiniAlbertForSequenceClassification
from minialbert_tf.tokenization import WordPieceTokenizer

_SCORES = {
    "single_label_classification": tf.nn.softmax,
    "multi_label_classification": tf.nn.sigmoid,
    "regression": tf.identity,
}


class TextGraph:
    """The functions behind the signatures of a sequence classifier or regression."""

    def __init__(self, model: MiniAlbertForSequenceClassification, tokenizer: WordPieceTokenizer) -> None:
        """Takes the model, whose weights the graph shares, and its tokenizer.

        Raises:
            InputError: If tensorflow-text is missing.
        """
        self._model = model
        self._tokenize = GraphTokenizer(tokenizer)
        self._tokenizer = tokenizer
        labels = model.config.labels
        inferred = "regression" if len(labels) == 1 else "single_label_classification"
        self._scores = _SCORES[model.config.problem_type or inferred]
        self._labels = tf.constant(labels)
        self.label_map = {"labels": labels, "problem_type": model.config.problem_type or inferred}

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Returns the functions by signature name."""
        text, text_pair = (tf.TensorSpec([None], tf.string, name) for name in ("text", "text_pair"))
        ids, lengths = tf.TensorSpec([None, None], tf.int32, "input_ids"), tf.TensorSpec([None], tf.int32, "lengths")
        signatures = {
            "serving_default": tf.function(lambda text: self._classify([text]), [text]),
            "tokens": tf.function(self._logits, [ids, lengths]),
        }
        if self._model.config.type_vocab_size > 1:
            # A signature of its own, because a request must hold every input of its signature.
            signatures["pairs"] = tf.function(
                lambda text, text_pair: self._classify([text, text_pair]), [text, text_pair]
            )
        return signatures

    def _classify(self, texts: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        # Both columns of a pair are one batch to the tokenizer.
        words = self._tokenize(checked_texts(tf.concat(texts, 0)))
        counts = tf.split(words.piece_counts, len(texts))
        starts = tf.split(tf.cumsum(words.piece_counts, exclusive=True), len(texts))
        kept = shorten(counts, self._model.config.max_position_embeddings - 1 - len(texts))
        lengths = tf.add_n(kept) + 1 + len(texts)

        def step(rows: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor]:
            segments = [
                (tf.gather(start, rows), tf.gather(count, rows)) for start, count in zip(starts, kept, strict=True)
            ]
            logits = self._model(sequences(words.piece_ids, segments, length, self._tokenizer), training=False)
            return (tf.reshape(logits, [-1]),)

        (logits,), offsets = run_in_steps(lengths, step, (tf.float32,))
        logits = tf.gather(logits, offsets[:, None] + tf.range(tf.size(self._labels)))
        label_ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return {
            "label_ids": label_ids,
            "labels": tf.gather(self._labels, label_ids),
            "scores": self._scores(logits),
            "dropped_pieces": tf.add_n(counts) - tf.add_n(kept),
        }

    def _logits(self, input_ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = masked_inputs(input_ids, lengths)
        # A second text follows the first [SEP]; pieces of texts are never [SEP].
        separators = tf.cast(input_ids == self._tokenizer.sep_id, tf.int32)
        type_ids = tf.minimum(
            tf.cumsum(separators, axis=1, exclusive=True), min(self._model.config.type_vocab_size - 1, 1)
        )
        return {"logits": self._model({**inputs, "token_type_ids": type_ids}, training=False)}


def shorten(counts: list[tf.Tensor], room: int) -> list[tf.Tensor]:
    """Returns how many pieces of each text fit, as `minialbert_tf.data.features.text_examples` cuts.

    Args:
        counts: Number of pieces of the texts (B,), and of their pairs if there are any.
        room: Number of pieces that fit together.
    """
    if len(counts) == 1:
        return [tf.minimum(counts[0], room)]
    first, second = counts
    first = tf.minimum(first, tf.maximum(room - second, room // 2))
    return [first, tf.minimum(second, room - first)]

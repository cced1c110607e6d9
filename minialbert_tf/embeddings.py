"""Factorised embeddings."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.errors import InputError


@keras.utils.register_keras_serializable("minialbert_tf")
class FactorizedEmbeddings(keras.layers.Layer):
    """P · Dropout(LayerNorm(word[ids] + position[0..L) + type[type_ids])) + b.

    The tables are E wide; the projector P: E→H has neither activation nor norm after it and is absent when E equals
    H (MiniALBERT, arXiv 2210.06425, section 3.1; ALBERT, arXiv 1909.11942, section 3.1).

    Input: ids (B, L) int32 and, optionally, token type ids (B, L). Output: (B, L, H).
    """

    built: bool

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        dropout: float = 0.0,
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        """Takes V, E, H, the longest L, the number of token types, and the usual dropout, epsilon and deviation."""
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.dropout = dropout
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        policy = self.dtype_policy
        self.norm = keras.layers.LayerNormalization(epsilon=layer_norm_eps, dtype=policy, name="norm")
        self.output_dropout = keras.layers.Dropout(dropout, dtype=policy, name="output_dropout")
        self.projector: keras.layers.Dense | None = None
        if embedding_size != hidden_size:
            kernel = keras.initializers.RandomNormal(stddev=initializer_range)
            self.projector = keras.layers.Dense(hidden_size, kernel_initializer=kernel, dtype=policy, name="projector")

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the constructor alone."""
        if self.built:
            return

        def table(name: str, rows: int) -> tf.Variable:
            normal = keras.initializers.RandomNormal(stddev=self.initializer_range)
            return self.add_weight(shape=(rows, self.embedding_size), initializer=normal, name=name)

        self.word_embeddings = table("word_embeddings", self.vocab_size)
        self.position_embeddings = table("position_embeddings", self.max_position_embeddings)
        self.token_type_embeddings = table("token_type_embeddings", self.type_vocab_size)
        self.norm.build((None, None, self.embedding_size))
        if self.projector is not None:
            self.projector.build((None, None, self.embedding_size))
        self.built = True

    def call(self, input_ids: tf.Tensor, token_type_ids: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        """Embeds ids of shape (B, L) as (B, L, H); without token type ids all are of type 0."""
        length = input_ids.shape[1]
        if length is not None and length > self.max_position_embeddings:
            raise InputError(
                f"A sequence must have at most max_position_embeddings={self.max_position_embeddings} tokens. "
                f"Received: {length}"
            )
        positions = tf.convert_to_tensor(self.position_embeddings)
        types = tf.convert_to_tensor(self.token_type_embeddings)
        embedded = tf.gather(tf.convert_to_tensor(self.word_embeddings), input_ids)  # (B, L, E)
        embedded += positions[: tf.shape(input_ids)[1] if length is None else length]
        embedded += types[0] if token_type_ids is None else tf.gather(types, token_type_ids)
        embedded = self.output_dropout(self.norm(embedded), training=training)
        return embedded if self.projector is None else self.projector(embedded)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "vocab_size": self.vocab_size,
            "embedding_size": self.embedding_size,
            "hidden_size": self.hidden_size,
            "max_position_embeddings": self.max_position_embeddings,
            "type_vocab_size": self.type_vocab_size,
            "dropout": self.dropout,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
        }

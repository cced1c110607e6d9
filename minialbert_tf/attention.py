"""Multi-head self-attention."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

# exp(-1e4) is 0 in every float type, and unlike -1e9 the value itself fits float16 and leaves integer
# activations of a quantised graph a usable range.
MASKED_BIAS = -1e4


def attention_bias(attention_mask: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Turns a mask (B, L), 1 for tokens and 0 for padding, into a bias (B, 1, 1, L) for attention scores."""
    return (1.0 - tf.cast(attention_mask, dtype))[:, None, None, :] * MASKED_BIAS


@keras.utils.register_keras_serializable("minialbert_tf")
class SelfAttention(keras.layers.Layer):
    """softmax(Q·Kᵀ/√D + bias)·V over A heads, then the output projection W_o.

    Input: hidden states (B, L, H) and a bias (B, 1, 1, L) that is strongly negative at masked keys.
    Output: (B, L, H), and the softmax maps (B, A, L, L) as they are before dropout.
    """

    built: bool

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        dropout: float = 0.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        """Takes H, A (which divides H), the dropout of the softmax maps and the kernels' standard deviation."""
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.dropout = dropout
        self.initializer_range = initializer_range

        def dense(name: str) -> keras.layers.Dense:
            kernel = keras.initializers.RandomNormal(stddev=initializer_range)
            return keras.layers.Dense(hidden_size, kernel_initializer=kernel, dtype=self.dtype_policy, name=name)

        self.query = dense("query")
        self.key = dense("key")
        self.value = dense("value")
        self.output_projection = dense("output_projection")
        self.probability_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="probability_dropout")

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the constructor alone."""
        if self.built:
            return
        for projection in (self.query, self.key, self.value, self.output_projection):
            projection.build((None, None, self.hidden_size))
        self.built = True

    def call(self, hidden: tf.Tensor, bias: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the attended states (B, L, H) and the softmax maps (B, A, L, L)."""
        query = self._split(self.query(hidden) * self.head_size**-0.5)  # (B, A, L, D)
        key = self._split(self.key(hidden))
        value = self._split(self.value(hidden))
        scores = tf.matmul(query, key, transpose_b=True) + tf.cast(bias, query.dtype)  # (B, A, L, L)
        # Half precision keeps too few digits of the sum over L keys.
        probabilities = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32)), query.dtype)
        context = tf.matmul(self.probability_dropout(probabilities, training=training), value)
        return self.output_projection(self._merge(context)), probabilities

    def _split(self, hidden: tf.Tensor) -> tf.Tensor:
        length = tf.shape(hidden)[1] if hidden.shape[1] is None else hidden.shape[1]
        return tf.transpose(tf.reshape(hidden, (-1, length, self.num_heads, self.head_size)), (0, 2, 1, 3))

    def _merge(self, context: tf.Tensor) -> tf.Tensor:
        length = tf.shape(context)[2] if context.shape[2] is None else context.shape[2]
        return tf.reshape(tf.transpose(context, (0, 2, 1, 3)), (-1, length, self.hidden_size))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "initializer_range": self.initializer_range,
        }

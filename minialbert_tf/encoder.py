"""The transformer block and the encoder that applies one block again and again."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.adapter import BottleneckAdapter
from minialbert_tf.attention import SelfAttention

ACTIVATIONS = {
    "gelu": lambda x: tf.nn.gelu(x, approximate=False),
    "gelu_new": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
}


@keras.utils.register_keras_serializable("minialbert_tf")
class TransformerBlock(keras.layers.Layer):
    """A post-norm transformer block, with room for an adapter before each of its two sub-layers.

        a = attention_adapter(x)
        h = LayerNorm(a + Dropout(W_o · MultiHeadAttention(a, bias)))
        m = feed_forward_adapter(h)
        x = LayerNorm(m + Dropout(W_2 · act(W_1 · m)))

    The adapters are arguments of the call, not parts of the block: a recursive encoder applies the same block with
    other adapters each time (MiniALBERT, arXiv 2210.06425, section 3).

    Input: hidden states (B, L, H) and an attention bias (B, 1, 1, L).
    Output: hidden states (B, L, H) and softmax maps (B, A, L, L).
    """

    built: bool

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        activation: str = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        """Takes H, A, the feed-forward width, one of `ACTIVATIONS`, and the usual dropouts, epsilon and deviation."""
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.intermediate_size = intermediate_size
        self.activation = activation
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        policy = self.dtype_policy

        def dense(units: int, name: str) -> keras.layers.Dense:
            kernel = keras.initializers.RandomNormal(stddev=initializer_range)
            return keras.layers.Dense(units, kernel_initializer=kernel, dtype=policy, name=name)

        def norm(name: str) -> keras.layers.LayerNormalization:
            return keras.layers.LayerNormalization(epsilon=layer_norm_eps, dtype=policy, name=name)

        self.attention = SelfAttention(
            hidden_size, num_heads, attention_dropout, initializer_range, dtype=policy, name="attention"
        )
        self.attention_norm = norm("attention_norm")
        self.intermediate = dense(intermediate_size, "intermediate")
        self.output_dense = dense(hidden_size, "output_dense")
        self.output_norm = norm("output_norm")
        self.hidden_dropout = keras.layers.Dropout(dropout, dtype=policy, name="hidden_dropout")

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the constructor alone."""
        if self.built:
            return
        hidden = (None, None, self.hidden_size)
        self.attention.build(hidden)
        self.attention_norm.build(hidden)
        self.intermediate.build(hidden)
        self.output_dense.build((None, None, self.intermediate_size))
        self.output_norm.build(hidden)
        self.built = True

    def call(
        self,
        hidden: tf.Tensor,
        bias: tf.Tensor,
        attention_adapter: BottleneckAdapter | None = None,
        feed_forward_adapter: BottleneckAdapter | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Applies the block once, with the adapters of one recursion if there are any."""
        if attention_adapter is not None:
            hidden = attention_adapter(hidden)
        attended, probabilities = self.attention(hidden, bias, training=training)
        hidden = self.attention_norm(hidden + self.hidden_dropout(attended, training=training))
        if feed_forward_adapter is not None:
            hidden = feed_forward_adapter(hidden)
        transformed = self.output_dense(ACTIVATIONS[self.activation](self.intermediate(hidden)))
        return self.output_norm(hidden + self.hidden_dropout(transformed, training=training)), probabilities

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "num_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": self.initializer_range,
        }


@keras.utils.register_keras_serializable("minialbert_tf")
class RecursiveEncoder(keras.layers.Layer):
    """One TransformerBlock applied N times, each time with bottleneck adapters of its own.

    Input: embeddings (B, L, H) and an attention bias (B, 1, 1, L).
    Output: the N+1 hidden states (B, L, H), the input first, and the N softmax maps (B, A, L, L).
    """

    built: bool

    def __init__(
        self,
        block: TransformerBlock,
        num_recursions: int,
        bottleneck_size: int,
        use_adapter: bool = True,
        **kwargs: Any,
    ) -> None:
        """Takes the block to share, N, the adapters' inner width, and whether the adapters are in use."""
        super().__init__(**kwargs)
        self.block = block
        self.num_recursions = num_recursions
        self.bottleneck_size = bottleneck_size
        self.use_adapter = use_adapter

        def adapters(name: str) -> list[BottleneckAdapter]:
            return [
                BottleneckAdapter(
                    block.hidden_size,
                    bottleneck_size,
                    block.initializer_range,
                    dtype=self.dtype_policy,
                    name=f"{name}_{k}",
                )
                for k in range(num_recursions)
            ]

        # Without use_adapter they stay unbuilt: layers without weights, so that `add_adapters` can build them later
        # in a layer that Keras has locked against new ones.
        self.attention_adapters = adapters("attention_adapter")
        self.feed_forward_adapters = adapters("feed_forward_adapter")

    def build(self, input_shape: Any = None) -> None:
        """Creates the block's weights and, with use_adapter, those of the adapters."""
        if self.built:
            return
        self.block.build()
        if self.use_adapter:
            self.add_adapters()
        self.built = True

    def add_adapters(self) -> None:
        """Creates the adapters' weights and puts the adapters to use."""
        for adapter in (*self.attention_adapters, *self.feed_forward_adapters):
            adapter.build()
        self.use_adapter = True

    def call(
        self, hidden: tf.Tensor, bias: tf.Tensor, training: bool = False
    ) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
        """Returns all hidden states and all softmax maps."""
        hidden_states = [hidden]
        attentions = []
        for k in range(self.num_recursions):
            hidden, probabilities = self.block(
                hidden,
                bias,
                attention_adapter=self.attention_adapters[k] if self.use_adapter else None,
                feed_forward_adapter=self.feed_forward_adapters[k] if self.use_adapter else None,
                training=training,
            )
            hidden_states.append(hidden)
            attentions.append(probabilities)
        return tuple(hidden_states), tuple(attentions)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "block": keras.utils.serialize_keras_object(self.block),
            "num_recursions": self.num_recursions,
            "bottleneck_size": self.bottleneck_size,
            "use_adapter": self.use_adapter,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RecursiveEncoder":
        """Rebuilds the layer from `get_config`."""
        return cls(keras.utils.deserialize_keras_object(config.pop("block")), **config)

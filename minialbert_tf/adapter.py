"""The bottleneck adapters that each recursion has of its own."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

ADAPTER_NORM_EPSILON = 1e-12


@keras.utils.register_keras_serializable("minialbert_tf")
class BottleneckAdapter(keras.layers.Layer):
    """Adapter(z) = LayerNorm(W_up · gelu(W_down · z) + z), with the exact (erf) GELU.

    The LayerNorm is on the main path, and the adapter stands before the sub-layer that it adapts (MiniALBERT,
    arXiv 2210.06425, section 3.2).

    Input and output shape: (B, L, H).
    """

    built: bool

    def __init__(self, hidden_size: int, bottleneck_size: int, initializer_range: float = 0.02, **kwargs: Any) -> None:
        """Takes H, the bottleneck's width (H // reduction_factor) and the kernels' standard deviation."""
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.bottleneck_size = bottleneck_size
        self.initializer_range = initializer_range
        policy = self.dtype_policy

        def dense(units: int, name: str) -> keras.layers.Dense:
            kernel = keras.initializers.RandomNormal(stddev=initializer_range)
            return keras.layers.Dense(units, kernel_initializer=kernel, dtype=policy, name=name)

        self.down = dense(bottleneck_size, "down")
        self.up = dense(hidden_size, "up")
        self.norm = keras.layers.LayerNormalization(epsilon=ADAPTER_NORM_EPSILON, dtype=policy, name="norm")

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the constructor alone."""
        if self.built:
            return
        self.down.build((None, None, self.hidden_size))
        self.up.build((None, None, self.bottleneck_size))
        self.norm.build((None, None, self.hidden_size))
        self.built = True

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """Adapts hidden states of shape (B, L, H)."""
        return self.norm(self.up(tf.nn.gelu(self.down(hidden), approximate=False)) + hidden)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "bottleneck_size": self.bottleneck_size,
            "initializer_range": self.initializer_range,
        }

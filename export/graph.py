"""The network as the TFLite converter should see it.

It computes what the Keras model does, in the shapes and the order that keep the file small and fast:

- One sequence at a time, so states are matrices (L, H) and a dense layer is one operator whatever L is.
- A lookup in an embedding table is TFLite's EMBEDDING_LOOKUP, which reads 8- and 4-bit rows.
- Names of operators say what they are part of, for the recipes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from minialbert_tf.adapter import BottleneckAdapter
from minialbert_tf.attention import MASKED_BIAS
from minialbert_tf.encoder import ACTIVATIONS, TransformerBlock
from minialbert_tf.export.signatures import tf_variable
from minialbert_tf.models import MiniAlbertForSequenceClassification, PretrainedModel

_SCALE_LEVELS = 127


class InferenceGraph:
    """The forward pass of a model with a head, for one sequence.

    Attributes:
        input_names: Inputs of `logits`, in order: token types matter only where texts come in pairs.
        variables: All that hold weights, for who saves the graph.
    """

    def __init__(
        self,
        model: PretrainedModel,
        recursions: int,
        loop: bool,
        scale_rows: bool,
        masked_bias: float = MASKED_BIAS,
    ) -> None:
        """Takes the weights of a model.

        Args:
            model: A `MiniAlbertForTokenClassification` or `MiniAlbertForSequenceClassification`.
            recursions: How often the block is applied, at most as often as the model does.
            loop: Whether the recursion is a loop over one copy of the block in the graph.
            scale_rows: Whether the word embeddings become two factors, rows within [-1, 1] and a scale for each row.
                A table quantised with one scale for all rows then keeps the precision of each.
            masked_bias: What is added to the scores of padding before softmax.
        """
        self._model = model
        self._recursions = recursions
        self._loop = loop
        self._masked_bias = masked_bias
        self._takes_pairs = isinstance(model, MiniAlbertForSequenceClassification)
        self.input_names = ("input_ids", "attention_mask", *(["token_type_ids"] if self._takes_pairs else []))
        encoder = model.encoder.recursive_encoder
        self._block = encoder.block
        stacks = (encoder.attention_adapters[:recursions], encoder.feed_forward_adapters[:recursions])
        self._adapters = stacks if encoder.use_adapter else None
        words = model.encoder.embeddings.word_embeddings.numpy()
        factors = scaled_rows(words) if scale_rows else (words,)
        self._word_factors = [tf.Variable(factor, trainable=False) for factor in factors]
        self.variables = [*map(tf_variable, model.variables), *self._word_factors]

    def logits(
        self, input_ids: tf.Tensor, attention_mask: tf.Tensor, token_type_ids: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns logits, (1, L, labels) or (1, labels), of inputs (1, L)."""
        hidden = self._embed(tf.reshape(input_ids, (-1,)), tf.reshape(attention_mask, (-1,)), token_type_ids)
        bias = (1.0 - tf.cast(attention_mask, tf.float32)) * self._masked_bias  # (1, L), added to (A, L, L)
        hidden = self._iterate(hidden, bias) if self._loop else self._unroll(hidden, bias)
        if self._takes_pairs:
            return _dense(self._model.classifier, hidden[:1], "classifier")
        return _dense(self._model.classifier, hidden, "classifier")[None]

    def _embed(self, ids: tf.Tensor, mask: tf.Tensor, token_type_ids: tf.Tensor | None) -> tf.Tensor:
        embeddings = self._model.encoder.embeddings
        with tf.name_scope("word_embeddings"):
            embedded = lookup(tf.convert_to_tensor(self._word_factors[0]), ids)  # (L, E)
        for scales in self._word_factors[1:]:
            with tf.name_scope("word_scales"):
                embedded *= lookup(tf.convert_to_tensor(scales), ids)
        positions = tf.convert_to_tensor(embeddings.position_embeddings)
        types = tf.convert_to_tensor(embeddings.token_type_embeddings)
        if token_type_ids is None:
            positions += types[0]
        else:
            embedded += tf.gather(types, tf.reshape(token_type_ids, (-1,)))
        with tf.name_scope("position_embeddings"):
            # Times the mask, or else the converter would look up constants in a constant, and every signature would
            # carry a float copy of the table's first L rows. Padding has no position.
            embedded += lookup(positions, tf.range(tf.size(ids)) * mask)
        embedded = _normalize(embeddings.norm, embedded)
        return embedded if embeddings.projector is None else _dense(embeddings.projector, embedded, "projector")

    def _unroll(self, hidden: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        for k in range(self._recursions):
            first, second = (_adapter(stack[k]) for stack in self._adapters) if self._adapters else (_identity,) * 2
            with tf.name_scope(f"recursion_{k}"):
                hidden = _block(self._block, hidden, bias, first, second)
        return hidden

    def _iterate(self, hidden: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        def step(k: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first, second = (_chosen(stack, k) for stack in self._adapters) if self._adapters else (_identity,) * 2
            return k + 1, _block(self._block, state, bias, first, second)

        return tf.while_loop(lambda k, _: k < self._recursions, step, (tf.constant(0), hidden), parallel_iterations=1)[
            1
        ]


@tf.function(experimental_implements="embedding_matmul")
def lookup(table: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns rows of a table (rows, width) by ids (n,): for the converter, EMBEDDING_LOOKUP."""
    return tf.gather(table, ids)


def _block(
    block: TransformerBlock,
    hidden: tf.Tensor,
    bias: tf.Tensor,
    attention_adapter: Callable[[tf.Tensor], tf.Tensor],
    feed_forward_adapter: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Applies the block to states (L, H); see `TransformerBlock` for the formula."""
    attention = block.attention

    def heads(projected: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(projected, (-1, attention.num_heads, attention.head_size)), (1, 0, 2))

    hidden = attention_adapter(hidden)
    with tf.name_scope("block"):
        query = heads(_dense(attention.query, hidden, "query") * attention.head_size**-0.5)  # (A, L, D)
        key = heads(_dense(attention.key, hidden, "key"))
        value = heads(_dense(attention.value, hidden, "value"))
        probabilities = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + bias)  # (A, L, L)
        context = tf.transpose(tf.matmul(probabilities, value), (1, 0, 2))
        context = tf.reshape(context, (-1, attention.hidden_size))
        attended = _dense(attention.output_projection, context, "output_projection")
        hidden = _normalize(block.attention_norm, hidden + attended)
    hidden = feed_forward_adapter(hidden)
    with tf.name_scope("block"):
        inner = ACTIVATIONS[block.activation](_dense(block.intermediate, hidden, "intermediate"))
        return _normalize(block.output_norm, hidden + _dense(block.output_dense, inner, "output_dense"))


def _adapter(adapter: BottleneckAdapter) -> Callable[[tf.Tensor], tf.Tensor]:
    def adapt(hidden: tf.Tensor) -> tf.Tensor:
        with tf.name_scope("adapter"):
            inner = tf.nn.gelu(_dense(adapter.down, hidden, "down"), approximate=False)
            return _normalize(adapter.norm, _dense(adapter.up, inner, "up") + hidden)

    return adapt


def _chosen(adapters: Sequence[BottleneckAdapter], k: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the adapter of recursion `k`, a number in the graph.

    It is chosen by halves between adapters with weights of their own. Looking up the weights instead would cost a
    quarter of the time: they would be no constants, which TFLite can neither multiply in 8 bits nor pack beforehand.
    """
    if len(adapters) == 1:
        return _adapter(adapters[0])
    middle = len(adapters) // 2
    low, high = _chosen(adapters[:middle], k), _chosen(adapters[middle:], k - middle)
    return lambda hidden: tf.cond(k < middle, lambda: low(hidden), lambda: high(hidden))


def _identity(hidden: tf.Tensor) -> tf.Tensor:
    return hidden


def _dense(layer: Any, hidden: tf.Tensor, name: str) -> tf.Tensor:
    with tf.name_scope(name):
        return tf.matmul(hidden, tf.convert_to_tensor(layer.kernel)) + tf.convert_to_tensor(layer.bias)


def _normalize(layer: Any, hidden: tf.Tensor) -> tf.Tensor:
    gamma, beta = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
    return _normalized(hidden, gamma, beta, layer.epsilon)


def _normalized(hidden: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Applies LayerNorm to the last axis."""
    with tf.name_scope("norm"):
        centered = hidden - tf.reduce_mean(hidden, -1, keepdims=True)
        variance = tf.reduce_mean(centered * centered, -1, keepdims=True)
        # That is centered · (rsqrt · gamma) + beta, in an order and with signs that the converter leaves alone. A
        # product with gamma, and a sum whose second term is beta, it would merge into the dense layer behind: the
        # block's weights, which N recursions share, would become N different ones.
        return beta - centered * (tf.math.rsqrt(variance + epsilon) * -gamma)


def scaled_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits a table into rows within [-1, 1] and scales (rows, 1), so that their product is the table.

    The scales are multiples of one number, up to 127 times it, and so survive quantisation to 8 bits unchanged.
    """
    largest = np.abs(table).max(axis=1, keepdims=True)
    unit = max(largest.max() / _SCALE_LEVELS, np.finfo(np.float32).tiny)
    scales = (np.maximum(np.ceil(largest / unit), 1) * unit).astype(np.float32)
    return (table / scales).astype(np.float32), scales

"""The SavedModel with one signature for each length of sequence, which is what the converter reads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from minialbert_tf.export.graph import InferenceGraph


def signature_name(length: int) -> str:
    """Returns the name of the signature for sequences of `length` tokens, or of up to so many."""
    return f"length_{length}"


def save_signatures(graph: "InferenceGraph", folder: Path, lengths: Sequence[int], dynamic: bool) -> None:
    """Writes a SavedModel whose signatures take int32 (1, L) inputs and return `logits`.

    Args:
        graph: The network.
        folder: Where to write.
        lengths: The L of each signature.
        dynamic: Whether L is free; its length then only names a signature.
    """
    module = tf.Module()
    # The variables alone: a tracked Keras 3 model brings functions that assign to them, and the converter then keeps
    # every weight as a mutable variable.
    module.weights = graph.variables
    signatures = {signature_name(length): _function(graph, None if dynamic else length) for length in lengths}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _function(graph: "InferenceGraph", length: int | None) -> Callable[..., dict[str, tf.Tensor]]:
    @tf.function(input_signature=[tf.TensorSpec((1, length), tf.int32, name=name) for name in graph.input_names])
    def run(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": graph.logits(*inputs)}

    return run


def tf_variable(variable: Any) -> tf.Variable:
    """Unwraps a Keras 3 variable; tf-keras has tf.Variables, whose `value` is a method."""
    return variable if isinstance(variable, tf.Variable) else variable.value

"""The model as a SavedModel with one signature for each length of sequence, the form that the converter reads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from minialbert_tf.models import MiniAlbertForSequenceClassification, PretrainedModel


def signature_name(length: int) -> str:
    """Returns the name of the signature for sequences of `length` tokens."""
    return f"length_{length}"


def input_names(model: PretrainedModel) -> tuple[str, ...]:
    """Returns the inputs of a signature: token types matter only where texts come in pairs."""
    pairs = isinstance(model, MiniAlbertForSequenceClassification)
    return ("input_ids", "attention_mask", *(["token_type_ids"] if pairs else []))


def save_signatures(model: PretrainedModel, folder: Path, lengths: Sequence[int]) -> None:
    """Writes a SavedModel whose signatures take int32 [1, L] inputs and return `logits`, for each L of `lengths`."""
    module = tf.Module()
    # The variables alone: a tracked Keras 3 model brings functions that assign to them, and the converter then keeps
    # every weight as a mutable variable.
    module.weights = [tf_variable(variable) for variable in model.variables]
    signatures = {signature_name(length): _function(model, length) for length in lengths}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _function(model: PretrainedModel, length: int) -> Callable[..., dict[str, tf.Tensor]]:
    names = input_names(model)

    @tf.function(input_signature=[tf.TensorSpec((1, length), tf.int32, name=name) for name in names])
    def run(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(dict(zip(names, inputs, strict=True)), training=False)}

    return run


def tf_variable(variable: Any) -> tf.Variable:
    """Unwraps a Keras 3 variable; tf-keras has tf.Variables, whose `value` is a method."""
    return variable if isinstance(variable, tf.Variable) else variable.value

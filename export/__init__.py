"""Exporters, imported as minialbert_tf.export.

Names load on first use, so that reading a bundle needs no tensorflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minialbert_tf.export.saved_model import export_saved_model as export_saved_model
    from minialbert_tf.export.tflite import export_tflite as export_tflite

_HOME = {"export_saved_model": "saved_model", "export_tflite": "tflite"}

__all__ = ["export_saved_model", "export_tflite"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"minialbert_tf.export.{_HOME[name]}"), name)
    raise AttributeError(f"module 'minialbert_tf.export' has no attribute '{name}'")

"""Exporters, imported as minialbert_tf.export; names load on first use: reading a bundle needs no tensorflow."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minialbert_tf.export.tflite import export_tflite as export_tflite

__all__ = ["export_tflite"]


def __getattr__(name: str) -> Any:
    if name == "export_tflite":
        from minialbert_tf.export.tflite import export_tflite

        return export_tflite
    raise AttributeError(f"module 'minialbert_tf.export' has no attribute '{name}'")

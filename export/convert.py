"""Converts a SavedModel to a TFLite flatbuffer, as a program of its own: the converter leaks memory on every call.

python -m minialbert_tf.export.convert SAVED_MODEL OUTPUT.tflite QUANTIZATION
"""

import sys
from pathlib import Path

import tensorflow as tf


def convert(saved_model: str, quantization: str) -> bytes:
    """Returns the flatbuffer: built-in operators only, all signatures over shared buffers."""
    signatures = sorted(tf.saved_model.load(saved_model).signatures, key=lambda name: int(name.split("_")[-1]))
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=signatures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(convert(sys.argv[1], sys.argv[3]))

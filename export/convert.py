"""The program behind `minialbert_tf.export.conversion`: python -m minialbert_tf.export.convert FOLDER."""

import sys
from pathlib import Path

import tensorflow as tf

from minialbert_tf.export.conversion import Conversion, read_request, write_answer
from minialbert_tf.export.flatbuffer import compact
from minialbert_tf.export.graph import InferenceGraph
from minialbert_tf.export.quantize import quantize_weights
from minialbert_tf.export.recipes import RECIPES
from minialbert_tf.export.signatures import save_signatures, signature_name
from minialbert_tf.models import PretrainedModel


def main(folder: Path) -> None:
    """Answers the request in a folder."""
    model, conversion = read_request(folder)
    recipe = RECIPES[conversion.quantization]
    converted = _convert_floats(model, conversion, folder / "saved_model", scale_rows=recipe.is_integer)
    default_length = conversion.lengths[-1] if conversion.dynamic else None
    quantized = quantize_weights(converted, recipe)
    write_answer(folder, compact(converted, default_length), compact(quantized, default_length))


def _convert_floats(model: PretrainedModel, conversion: Conversion, folder: Path, scale_rows: bool) -> bytes:
    """Returns the converter's flatbuffer: built-in operators only, all signatures over shared buffers."""
    graph = InferenceGraph(model, conversion.recursions, conversion.loop, scale_rows)
    save_signatures(graph, folder, conversion.lengths, conversion.dynamic)
    names = [signature_name(length) for length in conversion.lengths]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=names)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The program behind `minialbert_tf.export.conversion`: python -m minialbert_tf.export.convert FOLDER."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from minialbert_tf.attention import MASKED_BIAS
from minialbert_tf.export.bundle import write_bundle
from minialbert_tf.export.conversion import Conversion, file_of, read_request, write_measurements
from minialbert_tf.export.flatbuffer import compact
from minialbert_tf.export.graph import InferenceGraph
from minialbert_tf.export.quantize import quantize_weights
from minialbert_tf.export.recipes import RECIPES, Recipe
from minialbert_tf.export.signatures import save_signatures, signature_name
from minialbert_tf.export.verify import measure

# In place of -1e4 where activations are integers: beside so large a number 8 bits, and even 16, would leave nothing of
# the scores. exp(-32) is 1e-14, which a softmax in floats cannot tell from nothing.
CALIBRATED_MASKED_BIAS = -32.0


def main(folder: Path) -> None:
    """Answers the request in a folder."""
    model, conversion, checks = read_request(folder)
    recipe = RECIPES[conversion.quantization]
    _tell("converting")
    graph = InferenceGraph(
        model,
        conversion.recursions,
        conversion.loop,
        scale_rows=recipe.is_integer,
        masked_bias=CALIBRATED_MASKED_BIAS if recipe.activation_bits else MASKED_BIAS,
    )
    converted = _convert_floats(graph, conversion, folder / "saved_model")
    _tell(f"quantising: {conversion.quantization}")
    quantized = _quantize(converted, recipe, model, graph.input_names, conversion)
    in_floats = folder / "floats.tflite"
    _write_file(in_floats, converted, model, conversion)
    _write_file(file_of(folder), quantized, model, conversion)
    _tell("verifying")
    write_measurements(folder, measure(model, conversion, checks, in_floats, file_of(folder)))


def _tell(stage: str) -> None:
    if sys.stdout.isatty():
        print(f"{stage} …", flush=True)


def _convert_floats(graph: InferenceGraph, conversion: Conversion, folder: Path) -> bytes:
    """Returns the converter's flatbuffer: built-in operators only, all signatures over shared buffers."""
    save_signatures(graph, folder, conversion.lengths, conversion.dynamic)
    names = [signature_name(length) for length in conversion.lengths]
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=names)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _quantize(flatbuffer: bytes, recipe: Recipe, model: Any, names: Sequence[str], conversion: Conversion) -> bytes:
    bits = recipe.activation_bits
    if bits is not None:
        from minialbert_tf.export.calibrate import quantize_activations  # needs an extra

        pieces = conversion.calibration
        flatbuffer = quantize_activations(flatbuffer, bits, conversion.lengths, names, pieces, model.tokenizer)
    return quantize_weights(flatbuffer, recipe)


def _write_file(path: Path, flatbuffer: bytes, model: Any, conversion: Conversion) -> None:
    default_length = conversion.lengths[-1] if conversion.dynamic else None
    write_bundle(
        path,
        compact(flatbuffer, default_length),
        task=conversion.task,
        labels=conversion.labels,
        sequence_lengths=conversion.lengths,
        quantization=conversion.quantization,
        tokenizer=model.tokenizer,
        config=conversion.config,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

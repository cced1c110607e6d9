"""Stores activations in 8 or 16 bits, too, in ranges that they were seen to take."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.calibrator import CalibrationMode, Calibrator
from ai_edge_quantizer.recipe_manager import RecipeManager
from ai_edge_quantizer.utils.qsv_utils import min_max_update, moving_average_update

from minialbert_tf.export.signatures import signature_name
from minialbert_tf.tokenization import WordPieceTokenizer

_RULES = {8: recipe.static_wi8_ai8, 16: recipe.static_wi8_ai16}
# 16 bits reach as far as any activation did. 8 bits are better spent on where most are, at the cost of cutting some.
_RANGES = {8: moving_average_update, 16: min_max_update}


def quantize_activations(
    flatbuffer: bytes,
    bits: int,
    lengths: Sequence[int],
    names: Sequence[str],
    pieces: Sequence[int],
    tokenizer: WordPieceTokenizer,
) -> bytes:
    """Returns the network with integers in all operators but the lookups in embeddings, and logits in floats again.

    Args:
        flatbuffer: The network in floats with one signature for each length.
        bits: Bits of the activations, 8 or 16; weights get 8.
        lengths: The signatures' lengths.
        names: Names of the inputs.
        pieces: Piece ids of texts in a row, which run through each signature.
        tokenizer: The network's.
    """
    rules = _RULES[bits]()
    rules.append({**rules[0], "operation": "OUTPUT", "algorithm_key": quantizer.AlgorithmName.NO_QUANTIZE})
    manager = RecipeManager()
    manager.load_quantization_recipe(rules)
    # By this mode in half the time and memory as by the other, with the same ranges.
    mode = CalibrationMode.CALIBRATION_PROFILER_BASED
    calibrator = Calibrator(flatbuffer, num_threads=os.cpu_count() or 1, mode=mode, qsv_update_func=_RANGES[bits])
    inputs = {signature_name(length): list(_inputs(pieces, length, names, tokenizer)) for length in lengths}
    calibrator.calibrate(inputs, manager)
    quantized = quantizer.Quantizer(flatbuffer, rules).quantize(calibrator.get_model_qsvs())
    return bytes(quantized.quantized_model)


def _inputs(
    pieces: Sequence[int], length: int, names: Sequence[str], tokenizer: WordPieceTokenizer
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the pieces as sequences that all have some padding: ranges are averages, and must hold the mask."""
    capacity = length - 3
    for number, start in enumerate(range(0, len(pieces), capacity)):
        ids = [tokenizer.cls_id, *pieces[start : start + capacity], tokenizer.sep_id]
        padding = [0] * (length - len(ids))
        # Where texts may come in pairs, every other sequence is taken for one.
        second = len(ids) // 2 if number % 2 else 0
        values = {
            "input_ids": ids + padding,
            "attention_mask": [1] * len(ids) + padding,
            "token_type_ids": [0] * (len(ids) - second) + [1] * second + padding,
        }
        yield {name: np.array([values[name]], np.int32) for name in names}

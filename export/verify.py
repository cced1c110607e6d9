"""Measures, in the converter's process, what a converted network consists of and how near it is to the model."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from minialbert_tf.evaluation import label_corpus
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.export.census import count_operators, custom_operators, weigh_constants
from minialbert_tf.export.conversion import Checks, Conversion
from minialbert_tf.export.flatbuffer import read_model
from minialbert_tf.export.measurements import F1, Agreement, Difference, Measurements
from minialbert_tf.export.probes import Probe
from minialbert_tf.export.recipes import RECIPES
from minialbert_tf.litert_runtime import LiteRTRuntime
from minialbert_tf.ner import evaluate_tags
from minialbert_tf.tagger import Runtime, Tagger

_SEED = 0


def measure(model: Any, conversion: Conversion, checks: Checks, in_floats: Path, quantized: Path) -> Measurements:
    """Compares two files, in floats and as the recipe says, with each other and with Keras.

    Args:
        model: The model.
        conversion: What the files were to become.
        checks: What to compare on.
        in_floats: The file in floats.
        quantized: The file to be shipped.
    """
    size = read_bundle(quantized).card.model_bytes
    content = read_model(quantized.read_bytes()[:size])
    weights = weigh_constants(content, model, conversion.recursions, RECIPES[conversion.quantization])
    floats, shipped = LiteRTRuntime(in_floats), LiteRTRuntime(quantized)
    return Measurements(
        operators=count_operators(content),
        custom_operators=custom_operators(content),
        weights=weights,
        differences=tuple(_differences(model, conversion, floats, shipped)),
        agreement=_agreement(floats, shipped, checks.probes) if len(conversion.labels) > 1 else None,
        f1=_f1(in_floats, quantized, checks) if checks.sentences else None,
    )


def _differences(model: Any, conversion: Conversion, floats: Runtime, shipped: Runtime) -> Iterator[Difference]:
    """Yields the differences from Keras at each length, on a sequence that leaves room for some padding."""
    random = np.random.default_rng(_SEED)
    below = 0
    for length in conversion.lengths:
        ids = random.integers(model.config.vocab_size, size=max(length - 1, below + 1)).astype(np.int32)
        expected = _keras_logits(model, conversion, ids)
        found = [runtime.predict([ids.tolist()])[0] for runtime in (floats, shipped)]
        yield Difference(length, *(_largest_difference(logits, expected) for logits in found))
        below = length


def _keras_logits(model: Any, conversion: Conversion, ids: np.ndarray) -> np.ndarray:
    hidden = model.encoder({"input_ids": ids[None]})["hidden_states"][conversion.recursions]
    logits = np.asarray(model.classifier(hidden))[0]
    return logits if conversion.task == "token-classification" else logits[0]


def _largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _agreement(floats: Runtime, shipped: Runtime, probes: Sequence[Probe]) -> Agreement:
    expected, found = (_decisions(runtime, probes) for runtime in (floats, shipped))
    return Agreement(len(expected), float(np.mean(expected == found)))


def _decisions(runtime: Runtime, probes: Sequence[Probe]) -> np.ndarray:
    """Returns the label ids at the probes' decided positions."""
    outputs = runtime.predict([probe.ids for probe in probes])
    return np.concatenate(
        [
            np.atleast_2d(logits)[list(probe.decided)].argmax(axis=-1)
            for logits, probe in zip(outputs, probes, strict=True)
        ]
    )


def _f1(in_floats: Path, quantized: Path, checks: Checks) -> F1:
    gold = [sentence.tags for sentence in checks.sentences]
    scores = []
    for path in (in_floats, quantized):
        with Tagger.from_tflite(path) as tagger:
            # With 16-bit activations this takes half an hour.
            bar = tqdm(None, f"F1 of {path.name}", len(gold), unit="sentence", file=sys.stdout, disable=None)
            tags = [tagger.word_tags(*labelled) for labelled in label_corpus(tagger, checks.sentences, bar)]
        scores.append(evaluate_tags(gold, tags).micro.f1)
    return F1(len(gold), *scores)

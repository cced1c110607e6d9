"""Whether what was measured of a file is good enough, and the report that is written beside it."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import Card, read_bundle
from minialbert_tf.export.conversion import Conversion
from minialbert_tf.export.measurements import Measurements
from minialbert_tf.export.recipes import Recipe

FORMAT = "minialbert-tflite-report"
VERSION = 1
# Largest difference of logits in floats from Keras, as a share of the largest logit where that is above 1.
TOLERANCE = 1e-4


def check(measured: Measurements, recipe: Recipe, force_quality: bool = False) -> None:
    """Refuses a network that is not what it should be.

    Args:
        measured: What was measured of it.
        recipe: How it was quantised.
        force_quality: Whether it may lose more by that than the recipe says.

    Raises:
        InputError: If it is refused.
    """
    if measured.custom_operators:
        raise InputError(
            f"Every operator must be one of TFLite's own. Received: {', '.join(measured.custom_operators)}"
        )
    if measured.weights.surplus:
        raise InputError(
            "Every matrix of the model must stand in the file once. Received more: "
            f"{', '.join(measured.weights.surplus)}"
        )
    for difference in measured.differences:
        if not difference.floats <= TOLERANCE:  # NaN is refused, too
            raise InputError(
                f"The network in floats must agree with Keras to {TOLERANCE:g} before it is quantised. "
                f"Received: {difference.floats:.1e} at length {difference.length}"
            )
    if not force_quality:
        _check_quality(measured, recipe)


def _check_quality(measured: Measurements, recipe: Recipe) -> None:
    hint = "use another quantization, or force_quality (--force-quality) to have it all the same"
    agreement, f1 = measured.agreement, measured.f1
    if agreement and not agreement.same >= recipe.min_agreement:
        raise InputError(
            f"{recipe.name} must keep {recipe.min_agreement:.1%} of the labels that the model gives in floats; {hint}. "
            f"Received: {agreement.same:.1%} of {agreement.decisions}"
        )
    if f1 and not 100 * (f1.floats - f1.quantized) <= recipe.max_f1_drop:
        raise InputError(
            f"{recipe.name} must lose at most {recipe.max_f1_drop:g} points of F1; {hint}. "
            f"Received: {100 * f1.quantized:.2f}, in floats {100 * f1.floats:.2f}"
        )


@dataclass(frozen=True)
class Report:
    """What an exported file is and was measured to be; the same export gives the same report.

    Attributes:
        card: The card in the file.
        bytes: The file's size.
        sha256: The file's SHA-256, in hexadecimal.
        conversion: What was made of the model.
        recipe: How it was quantised.
        measured: What was measured.
    """

    card: Card
    bytes: int
    sha256: str
    conversion: Conversion
    recipe: Recipe
    measured: Measurements

    @classmethod
    def of(cls, path: Path, conversion: Conversion, recipe: Recipe, measured: Measurements) -> "Report":
        """Makes the report of a file."""
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(read_bundle(path).card, len(content), sha256, conversion, recipe, measured)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        card, measured, recipe = self.card, self.measured, self.recipe
        agreement, f1 = measured.agreement, measured.f1
        parts = {name: dataclasses.asdict(part) for name, part in measured.weights.parts.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "file": {"bytes": self.bytes, "sha256": self.sha256},
            "model": {"bytes": card.model_bytes, "sha256": card.model_sha256},
            "task": card.task,
            "quantization": card.quantization,
            "sequence_lengths": list(card.sequence_lengths),
            "graph": "loop" if self.conversion.loop else "unrolled",
            "dynamic": self.conversion.dynamic,
            "recursions": self.conversion.recursions,
            "operators": dict(measured.operators),
            "weights": {"parts": parts, "other_bytes": measured.weights.other_bytes},
            "difference_from_keras": {
                str(each.length): {"floats": _rounded(each.floats), "quantized": _rounded(each.quantized)}
                for each in measured.differences
            },
            "agreement": agreement
            and {"decisions": agreement.decisions, "same": agreement.same, "at_least": recipe.min_agreement},
            "f1": f1
            and {
                "sentences": f1.sentences,
                "floats": f1.floats,
                "quantized": f1.quantized,
                "may_lose": recipe.max_f1_drop / 100,
            },
        }

    def __str__(self) -> str:
        lengths = ", ".join(map(str, self.card.sequence_lengths))
        lines = [f"{self.bytes / 1e6:.2f} MB, {self.recipe.name}: {self.recipe.summary}; lengths {lengths}", ""]
        return "\n".join([*lines, *self._weight_lines(), "", *self._difference_lines(), *self._quality_lines()])

    def _weight_lines(self) -> Iterator[str]:
        weights = self.measured.weights
        yield f"{'weights':20} {'parameters':>12} {'bits':>5} {'bytes':>12}"
        for name, part in weights.parts.items():
            yield f"{name.replace('_', ' '):20} {part.parameters:12,} {part.bits:5} {part.bytes:12,}"
        yield f"{'biases, norms, other':20} {'':12} {'':5} {weights.other_bytes:12,}"

    def _difference_lines(self) -> Iterator[str]:
        yield f"{'logits beside Keras':20} {'in floats':>12} {'':5} {self.recipe.name:>12}"
        for each in self.measured.differences:
            yield f"{f'length {each.length}':20} {each.floats:12.1e} {'':5} {each.quantized:12.1e}"

    def _quality_lines(self) -> Iterator[str]:
        agreement, f1 = self.measured.agreement, self.measured.f1
        if agreement:
            yield (
                f"the label that the model gives in floats: {agreement.same:.2%} of {agreement.decisions:,} "
                f"(at least {self.recipe.min_agreement:.1%})"
            )
        if f1:
            yield (
                f"entity F1 on {f1.sentences:,} sentences: {f1.quantized:.4f}, in floats {f1.floats:.4f} "
                f"(may lose {self.recipe.max_f1_drop / 100:g})"
            )


def _rounded(difference: float) -> float:
    """Rounds to two digits: the others depend on the machine."""
    return float(f"{difference:.1e}")

"""What verification measures of an exported file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """The matrices of one part of the network.

    Attributes:
        parameters: Number of values.
        bits: Bits of a value.
        bytes: Their size in the file.
    """

    parameters: int
    bits: int
    bytes: int


@dataclass(frozen=True)
class Weights:
    """The constants of a flatbuffer.

    Attributes:
        parts: Its matrices by the part of the model that they are of; each counts once.
        other_bytes: Size of all else: biases, LayerNorm, and what operators are set with.
        surplus: Matrices that the model does not have, or not so often. All other constants are vectors.
    """

    parts: Mapping[str, Part]
    other_bytes: int
    surplus: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Largest difference of logits from Keras, as a share of the largest logit where that is above 1.

    Attributes:
        length: The signature's L.
        floats: Of the network in floats.
        quantized: Of the network in the file.
    """

    length: int
    floats: float
    quantized: float


@dataclass(frozen=True)
class Agreement:
    """How many labels are the same as those of the network in floats.

    Attributes:
        decisions: Number of labels: of words, or of texts.
        same: Share of the same.
    """

    decisions: int
    same: float


@dataclass(frozen=True)
class F1:
    """Entity F1 on labelled sentences, from 0 to 1.

    Attributes:
        sentences: Their number.
        floats: Of the network in floats.
        quantized: Of the network in the file.
    """

    sentences: int
    floats: float
    quantized: float


@dataclass(frozen=True)
class Measurements:
    """What verification measured.

    Attributes:
        operators: Number of operators of each kind.
        custom_operators: Those that are not TFLite's own.
        weights: What the constants are.
        differences: One for each length.
        agreement: None where there is only one label.
        f1: None where no labelled sentences were given.
    """

    operators: Mapping[str, int]
    custom_operators: tuple[str, ...]
    weights: Weights
    differences: tuple[Difference, ...]
    agreement: Agreement | None
    f1: F1 | None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, from which `from_json` makes the same again."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Measurements":
        """Reads what `to_json` gave."""
        weights, agreement, f1 = values["weights"], values["agreement"], values["f1"]
        return cls(
            operators=values["operators"],
            custom_operators=tuple(values["custom_operators"]),
            weights=Weights(
                parts={name: Part(**part) for name, part in weights["parts"].items()},
                other_bytes=weights["other_bytes"],
                surplus=tuple(weights["surplus"]),
            ),
            differences=tuple(Difference(**each) for each in values["differences"]),
            agreement=Agreement(**agreement) if agreement else None,
            f1=F1(**f1) if f1 else None,
        )

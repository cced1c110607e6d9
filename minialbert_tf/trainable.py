"""A readable report of what is trainable in a model."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Part(NamedTuple):
    """Parameters of one part of a model."""

    name: str
    trainable: int
    frozen: int


class TrainableReport(NamedTuple):
    """Parameters by part; `str()` gives a table."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, layers: Mapping[str, Sequence[Any]]) -> "TrainableReport":
        """Counts the parameters of the Keras layers of each part."""

        def size(weights: Sequence[Any]) -> int:
            return sum(int(weight.shape.num_elements()) for weight in weights)

        return cls(
            tuple(
                Part(
                    name,
                    sum(size(layer.trainable_weights) for layer in part),
                    sum(size(layer.non_trainable_weights) for layer in part),
                )
                for name, part in layers.items()
            )
        )

    @property
    def trainable(self) -> int:
        """All trainable parameters."""
        return sum(part.trainable for part in self.parts)

    @property
    def total(self) -> int:
        """All parameters."""
        return sum(part.trainable + part.frozen for part in self.parts)

    def __str__(self) -> str:
        rows = [*self.parts, Part("total", self.trainable, self.total - self.trainable)]
        lines = [f"{'part':<12}{'trainable':>14}{'frozen':>14}"]
        lines += [f"{name:<12}{trainable:>14,}{frozen:>14,}" for name, trainable, frozen in rows]
        return "\n".join([*lines, f"{self.trainable / max(self.total, 1):.1%} of the parameters are trainable"])

"""Which layer of the teacher teaches which recursion of the student."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from tensorflow import keras

from minialbert_tf.errors import InputError


@keras.utils.register_keras_serializable("minialbert_tf")
@dataclass(frozen=True)
class LayerMap:
    """The teacher's layers by recursion: recursion k, from 1, learns from layer `layers[k - 1]`, from 1.

    Attributes:
        layers: One for each recursion.
    """

    layers: tuple[int, ...]

    @classmethod
    def uniform(cls, recursions: int, teacher_layers: int) -> Self:
        """Spreads the recursions over the teacher: recursion k learns from layer k · (teacher_layers / recursions).

        Raises:
            InputError: If the number of recursions does not divide that of the teacher's layers.
        """
        if teacher_layers % recursions:
            raise InputError(
                "The recursions must divide the teacher's layers, unless a layer map is given. "
                f"Received: recursions={recursions}, teacher_layers={teacher_layers}"
            )
        return cls(tuple(k * (teacher_layers // recursions) for k in range(1, recursions + 1)))

    @classmethod
    def of(cls, layers: "LayerMap | Iterable[int] | None", recursions: int, teacher_layers: int) -> Self:
        """Returns a map that fits the two models; None means `uniform`.

        Raises:
            InputError: If it does not name one layer of the teacher for each recursion.
        """
        if layers is None:
            return cls.uniform(recursions, teacher_layers)
        chosen = cls(layers.layers if isinstance(layers, LayerMap) else tuple(layers))
        valid = all(type(layer) is int and 1 <= layer <= teacher_layers for layer in chosen.layers)
        if not valid or len(chosen.layers) != recursions:
            raise InputError(
                f"A layer map must name a teacher layer from 1 to {teacher_layers} for each of {recursions} "
                f"recursions. Received: {', '.join(map(str, chosen.layers))}"
            )
        return chosen

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"layers": list(self.layers)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the map from `get_config`."""
        return cls(tuple(config["layers"]))

"""What an exported network may look like: its graph, and how many bits the weights of each part are stored in."""

from dataclasses import dataclass

from minialbert_tf.errors import InputError

# The recursion as copies of the block in the graph, or as a loop over one.
GRAPHS = ("unrolled", "loop")
FLOAT_BITS = 32
HALF_BITS = 16


@dataclass(frozen=True)
class Recipe:
    """How a network is quantised, and how much it may lose by that.

    Attributes:
        name: What users ask for.
        summary: What the name means, in one line.
        weight_bits: Pairs of a part of an operator's name and the bits of its weights, the first that fits counts; ""
            fits all. Weights are 16- or 32-bit floats, or symmetric integers of 4 or 8 bits with a scale for each
            output channel. Biases and LayerNorm stay in 32-bit floats.
        activation_bits: Bits of activations whose range is measured beforehand on texts; None leaves activations in
            floats between operators. Matrix products of 4- and 8-bit weights then compute with 8-bit activations that
            are scaled anew for every token (dynamic range).
        max_f1_drop: Most points of F1 (0 to 100) that it may lose against the model in floats.
        min_agreement: Least share of words that must keep the label that the model in floats gives them.
    """

    name: str
    summary: str
    weight_bits: tuple[tuple[str, int], ...]
    activation_bits: int | None
    max_f1_drop: float
    min_agreement: float

    @property
    def is_integer(self) -> bool:
        """Whether any weights are stored as integers."""
        return any(bits < HALF_BITS for _, bits in self.weight_bits)

    def bits_of(self, operator: str) -> int:
        """Returns the bits of the weights of an operator by its name."""
        return next(bits for part, bits in self.weight_bits if part in operator)


_FLOATS = (("", FLOAT_BITS),)
_HALVES = (("", HALF_BITS),)
# The scales of the word embeddings' rows are made to fit 8 bits without a loss, see `InferenceGraph`.
_INT8 = (("", 8),)
_INT4 = (("block", 4), ("word_embeddings", 4), ("", 8))
_MEASURED = "bits in ranges measured on texts, for NPUs"

# What they may lose is far more than trained models lost, and less than a network that labels everything alike.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("none", "32-bit floats, as trained", _FLOATS, None, 0.05, 0.999),
        Recipe("fp16", "weights in half floats, computed in floats", _HALVES, None, 0.1, 0.99),
        Recipe("int8", "8-bit weights, activations scaled per token while it runs", _INT8, None, 0.3, 0.95),
        Recipe("int4", "4-bit block and word embeddings, the rest as int8", _INT4, None, 1.5, 0.9),
        Recipe("int8-static", f"8-bit weights, activations of 8 {_MEASURED}", _INT8, 8, 1.0, 0.9),
        Recipe("int16x8", f"8-bit weights, activations of 16 {_MEASURED}", _INT8, 16, 0.3, 0.95),
    )
}
OTHER_NAMES = {"float32": "none"}


def find_recipe(name: str) -> Recipe:
    """Returns the recipe of a name.

    Raises:
        InputError: If there is none.
    """
    recipe = RECIPES.get(OTHER_NAMES.get(name, name))
    if recipe is None:
        raise InputError(f"quantization must be one of {', '.join(RECIPES)}. Received: {name!r}")
    return recipe

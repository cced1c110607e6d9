"""The weight map: which checkpoint tensor is which variable, as rows that are walked in both directions.

Checkpoint names are those of the original PyTorch code (`nlpie/miniALBERT-128` and its siblings) and of Hugging Face's
BERT, without the `albert.` or `bert.` that a model with a head puts before its encoder's names. Variable paths are
attribute paths from the encoder or from the head.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

BLOCK = "albert.encoder.albert_layer_groups.0.albert_layers.0"


class Row(NamedTuple):
    """One tensor: its checkpoint name, our variable's path, and whether the matrix is stored transposed.

    PyTorch's Linear weights are (out, in), Keras kernels (in, out); transposing is its own inverse.
    """

    name: str
    path: str
    transposed: bool = False

    def convert(self, array: np.ndarray) -> np.ndarray:
        """Turns the checkpoint's array into the variable's and back."""
        return array.T if self.transposed else array

    def variable(self, model: Any) -> Any:
        """Returns the model's variable."""
        owner = model
        for step in self.path.split("."):
            owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
        return owner


def _linear(name: str, path: str) -> tuple[Row, Row]:
    return Row(f"{name}.weight", f"{path}.kernel", transposed=True), Row(f"{name}.bias", f"{path}.bias")


def _norm(name: str, path: str) -> tuple[Row, Row]:
    return Row(f"{name}.weight", f"{path}.gamma"), Row(f"{name}.bias", f"{path}.beta")


def _embeddings(name: str) -> Iterator[Row]:
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        yield Row(f"{name}.{table}.weight", f"embeddings.{table}")
    yield from _norm(f"{name}.LayerNorm", "embeddings.norm")


def _mini_albert_encoder(config: Any) -> Iterator[Row]:
    """Rows of the encoder of a `MiniAlbertConfig`."""
    yield from _embeddings("albert.embeddings")
    if config.embedding_size != config.hidden_size:
        yield from _linear("projector", "embeddings.projector")
    block = "recursive_encoder.block"
    for projection in ("query", "key", "value"):
        yield from _linear(f"{BLOCK}.attention.{projection}", f"{block}.attention.{projection}")
    yield from _linear(f"{BLOCK}.attention.dense", f"{block}.attention.output_projection")
    yield from _norm(f"{BLOCK}.attention.LayerNorm", f"{block}.attention_norm")
    yield from _linear(f"{BLOCK}.ffn", f"{block}.intermediate")
    yield from _linear(f"{BLOCK}.ffn_output", f"{block}.output_dense")
    yield from _norm(f"{BLOCK}.full_layer_layer_norm", f"{block}.output_norm")
    for ours, theirs in (("attention_adapters", "att_adapters"), ("feed_forward_adapters", "mlp_adapters")):
        for k in range(config.num_hidden_layers if config.use_adapter else 0):
            yield from _linear(f"{theirs}.{k}.block.0", f"recursive_encoder.{ours}.{k}.down")
            yield from _linear(f"{theirs}.{k}.block.2", f"recursive_encoder.{ours}.{k}.up")
            yield from _norm(f"{theirs}.{k}.norm", f"recursive_encoder.{ours}.{k}.norm")


def _bert_encoder(config: Any) -> Iterator[Row]:
    """Rows of the encoder of a `BertConfig`."""
    yield from _embeddings("embeddings")
    for k in range(config.num_hidden_layers):
        name, path = f"encoder.layer.{k}", f"blocks.{k}"
        for projection in ("query", "key", "value"):
            yield from _linear(f"{name}.attention.self.{projection}", f"{path}.attention.{projection}")
        yield from _linear(f"{name}.attention.output.dense", f"{path}.attention.output_projection")
        yield from _norm(f"{name}.attention.output.LayerNorm", f"{path}.attention_norm")
        yield from _linear(f"{name}.intermediate.dense", f"{path}.intermediate")
        yield from _linear(f"{name}.output.dense", f"{path}.output_dense")
        yield from _norm(f"{name}.output.LayerNorm", f"{path}.output_norm")


CLASSIFIER_ROWS = _linear("classifier", "classifier")
MASKED_LM_ROWS = (
    *_linear("vocab_transform", "vocab_transform"),
    *_norm("vocab_layer_norm", "vocab_norm"),
    *_linear("vocab_projector", "vocab_projector"),
)
# The decoder is the word embedding table; only its bias is a tensor of its own.
BERT_MASKED_LM_ROWS = (
    *_linear("cls.predictions.transform.dense", "transform"),
    *_norm("cls.predictions.transform.LayerNorm", "transform_norm"),
    Row("cls.predictions.bias", "decoder_bias"),
)
# Second names of tensors, which a checkpoint may hold or leave out.
BERT_MASKED_LM_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


class Naming(NamedTuple):
    """How the checkpoints of a family of models name their tensors.

    Attributes:
        encoder: Gives the rows of the encoder of a config.
        head_prefix: Stands before the encoder's names in the checkpoint of a model with a head.
        heads: Names of all heads' tensors; those of another head than the model's are left over and ignored.
        unused: Names of the encoder's tensors that the model never uses: the pooler, kept for a round trip, and
            buffers of constant ids.
        legacy: Endings of names that old checkpoints use, and what they are now.
    """

    encoder: Callable[[Any], Iterator[Row]]
    head_prefix: str
    heads: frozenset[str]
    unused: tuple[str, ...]
    legacy: Mapping[str, str] = {}

    def rows(self, config: Any, head_rows: tuple[Row, ...] | None) -> list[Row]:
        """Rows of the bare encoder (`head_rows` None), or of a model whose attribute `encoder` is one, and its head."""
        rows = list(self.encoder(config))
        if head_rows is None:
            return rows
        return [row._replace(path=f"encoder.{row.path}") for row in rows] + list(head_rows)

    def prefix(self, tensors: Mapping[str, np.ndarray], config: Any) -> str:
        """Returns what stands before the encoder's names in a checkpoint: `head_prefix` or nothing."""
        return self.head_prefix if any(self.head_prefix + row.name in tensors for row in self.encoder(config)) else ""

    def in_file(self, name: str, prefix: str) -> str:
        """Returns the name in a checkpoint whose encoder's tensors have `prefix`."""
        return name if name in self.heads else prefix + name

    def modern(self, name: str) -> str:
        """Returns the present name of a tensor of an old checkpoint."""
        old = next((ending for ending in self.legacy if name.endswith(ending)), None)
        return name if old is None else name.removesuffix(old) + self.legacy[old]


MINI_ALBERT = Naming(
    encoder=_mini_albert_encoder,
    head_prefix="albert.",
    heads=frozenset(row.name for row in (*CLASSIFIER_ROWS, *MASKED_LM_ROWS)),
    unused=(
        "albert.pooler.weight",
        "albert.pooler.bias",
        "albert.embeddings.position_ids",
        "albert.embeddings.token_type_ids",
    ),
)
BERT = Naming(
    encoder=_bert_encoder,
    head_prefix="bert.",
    heads=frozenset(
        (
            *(row.name for row in (*CLASSIFIER_ROWS, *BERT_MASKED_LM_ROWS)),
            *BERT_MASKED_LM_TIED,
            "cls.seq_relationship.weight",
            "cls.seq_relationship.bias",
        )
    ),
    unused=("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids", "embeddings.token_type_ids"),
    legacy={".gamma": ".weight", ".beta": ".bias"},
)

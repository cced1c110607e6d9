"""The weight map: which checkpoint tensor is which variable, as rows that are walked in both directions.

Checkpoint names are those of the original PyTorch code (`nlpie/miniALBERT-128` and its siblings), without the
`albert.` that a model with a head puts before its encoder's names. Variable paths are attribute paths from the
encoder or from the head.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minialbert_tf.config import MiniAlbertConfig

BLOCK = "albert.encoder.albert_layer_groups.0.albert_layers.0"
# Never used by the model: the pooler, which is kept for a round trip, and buffers of constant ids.
UNUSED = (
    "albert.pooler.weight",
    "albert.pooler.bias",
    "albert.embeddings.position_ids",
    "albert.embeddings.token_type_ids",
)
HEAD_PREFIX = "albert."


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


def _linear(name: str, path: str) -> tuple[Row, Row]:
    return Row(f"{name}.weight", f"{path}.kernel", transposed=True), Row(f"{name}.bias", f"{path}.bias")


def _norm(name: str, path: str) -> tuple[Row, Row]:
    return Row(f"{name}.weight", f"{path}.gamma"), Row(f"{name}.bias", f"{path}.beta")


def encoder_rows(use_projector: bool, adapters: int) -> Iterator[Row]:
    """Rows of the encoder, with or without projector, and with `adapters` recursions that have adapters."""
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        yield Row(f"albert.embeddings.{table}.weight", f"embeddings.{table}")
    yield from _norm("albert.embeddings.LayerNorm", "embeddings.norm")
    if use_projector:
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
        for k in range(adapters):
            yield from _linear(f"{theirs}.{k}.block.0", f"recursive_encoder.{ours}.{k}.down")
            yield from _linear(f"{theirs}.{k}.block.2", f"recursive_encoder.{ours}.{k}.up")
            yield from _norm(f"{theirs}.{k}.norm", f"recursive_encoder.{ours}.{k}.norm")


CLASSIFIER_ROWS = _linear("classifier", "classifier")
MASKED_LM_ROWS = (
    *_linear("vocab_transform", "vocab_transform"),
    *_norm("vocab_layer_norm", "vocab_norm"),
    *_linear("vocab_projector", "vocab_projector"),
)
HEAD_TENSORS = frozenset(row.name for row in (*CLASSIFIER_ROWS, *MASKED_LM_ROWS))


def model_rows(config: MiniAlbertConfig, head_rows: tuple[Row, ...] | None) -> list[Row]:
    """Rows of the bare encoder (`head_rows` None), or of a model whose attribute `encoder` is one, and its head."""
    rows = encoder_rows(
        use_projector=config.embedding_size != config.hidden_size,
        adapters=config.num_hidden_layers if config.use_adapter else 0,
    )
    if head_rows is None:
        return list(rows)
    return [row._replace(path=f"encoder.{row.path}") for row in rows] + list(head_rows)

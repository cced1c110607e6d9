"""The golden checkpoints, and the tolerances that all numeric tests share."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

GOLDEN = Path(__file__).parent / "golden"
# Largest absolute difference from the PyTorch original, by how the model is run.
TOLERANCE = {"eager": 1e-5, "function": 1e-5, "xla": 1e-4}
GRADIENT_TOLERANCE = 1e-4  # relative

HEADS = {
    "encoder_only": "MiniAlbertModel",
    "masked_lm": "MiniAlbertForMaskedLM",
    "sequence_multi_label": "MiniAlbertForSequenceClassification",
    "sequence_regression": "MiniAlbertForSequenceClassification",
    "sequence_single_label": "MiniAlbertForSequenceClassification",
    "token_adapters": "MiniAlbertForTokenClassification",
    "token_bert_embeddings": "MiniAlbertForTokenClassification",
    "token_fp16": "MiniAlbertForTokenClassification",
    "token_legacy_pickle": "MiniAlbertForTokenClassification",
    "token_no_adapters": "MiniAlbertForTokenClassification",
    "token_no_projector": "MiniAlbertForTokenClassification",
}


def load_model(name: str) -> Any:
    """Returns the golden checkpoint as a model."""
    from minialbert_tf import models

    return getattr(models, HEADS[name]).from_pretrained(GOLDEN / name)


def load_expected(name: str) -> dict[str, np.ndarray]:
    """Returns what the original computed."""
    with np.load(GOLDEN / name / "expected.npz") as file:
        return dict(file)


def inputs_of(expected: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """Returns the model's inputs."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: tf.constant(expected[name], tf.int32) for name in names}

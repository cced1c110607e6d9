"""Running an exported SavedModel behind a Tagger, without a server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from minialbert_tf.batched_runtime import BatchedRuntime
from minialbert_tf.config import CONFIG_FILE, MiniAlbertConfig, read_json
from minialbert_tf.errors import InputError
from minialbert_tf.tagger import checked_labels
from minialbert_tf.tokenization import WordPieceTokenizer

LABELS_FILE = "labels.json"
ASSETS_FOLDER = "assets"


class SavedModelRuntime(BatchedRuntime):
    """Logits of token sequences from the signature `tokens` of a SavedModel.

    A SavedModel is a program: load only what comes from a source that you trust.

    Attributes:
        max_length: Longest sequence, [CLS] and [SEP] included.
        tokenizer: The tokenizer of the model.
        labels: IOB2 label names by id.
    """

    def __init__(self, folder: str | Path) -> None:
        """Loads NAME/VERSION, or the newest version of NAME.

        Raises:
            InputError: If it is none that `export_saved_model` wrote, is damaged, or does not label tokens.
        """
        folder = _version_folder(Path(folder))
        assets = folder / ASSETS_FOLDER
        config = MiniAlbertConfig.from_dict(read_json(assets / CONFIG_FILE))
        self.max_length = config.max_position_embeddings
        self.tokenizer = WordPieceTokenizer.from_pretrained(assets)
        self.labels = checked_labels(_read_labels(assets / LABELS_FILE))
        self._model: Any = _load(folder)
        try:
            self._tokens = self._model.signatures["tokens"]
        except KeyError:
            raise InputError(f"The SavedModel must have the signature tokens. Received: {folder}") from None

    def run(self, input_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns the logits (B, L, labels) of ids (B, L) that are padded behind `lengths` (B,)."""
        outputs = self._tokens(input_ids=tf.constant(input_ids), lengths=tf.constant(lengths))
        return outputs["logits"].numpy()

    def close(self) -> None:
        """Frees the model; nothing can be predicted afterwards."""
        del self._tokens, self._model


def _version_folder(folder: Path) -> Path:
    versions = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    newest = max(versions, key=lambda path: int(path.name), default=folder)
    if not (newest / "saved_model.pb").is_file() or not (newest / ASSETS_FOLDER / LABELS_FILE).is_file():
        raise InputError(f"The model must be a SavedModel of `minialbert export saved-model`. Received: {folder}")
    return newest


def _read_labels(file: Path) -> list[str]:
    label_map = read_json(file)
    labels = label_map.get("labels") if isinstance(label_map, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"The label map must list the labels. Received: {file} with {json.dumps(labels)}")
    return labels


def _load(folder: Path) -> Any:
    try:
        import tensorflow_text  # noqa: F401  # registers the operations of the signature for texts
    except ImportError as error:
        raise InputError(
            f"A SavedModel needs tensorflow-text: pip install 'minialbert-tf[serving]'. Received: {error}"
        ) from error
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"TensorFlow must be able to load the SavedModel. Received: {folder} ({reason})") from error

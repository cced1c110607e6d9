"""Export to a SavedModel that TensorFlow Serving runs: text in, entities or classes out."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from minialbert_tf.config import CONFIG_FILE
from minialbert_tf.errors import InputError
from minialbert_tf.export.serving.server_files import write_server_files
from minialbert_tf.export.serving.text_graph import TextGraph
from minialbert_tf.export.serving.token_graph import TokenGraph
from minialbert_tf.export.serving.warmup import WARMUP_FILE, write_warmup
from minialbert_tf.export.signatures import tf_variable
from minialbert_tf.files import check_free, replacing, write_json
from minialbert_tf.models import (
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    PretrainedModel,
)
from minialbert_tf.saved_model_runtime import LABELS_FILE
from minialbert_tf.tokenization import TOKENIZER_CONFIG_FILE, VOCABULARY_FILE, WordPieceTokenizer, as_tokenizer

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def export_saved_model(
    model: PretrainedModel,
    folder: str | Path,
    tokenizer: Any = None,
    version: int | None = None,
    force: bool = False,
) -> Path:
    """Writes NAME/VERSION for TensorFlow Serving, with warm-up requests, and once NAME/serve with server settings.

    Signatures of a token classifier (all tensors dense, the batch first):
        `serving_default`: text string [B] → label_ids int32 (entity types by the label map), labels string (their
            names), scores float32, starts and ends int32 (code points of the text), each [B, T] and filled up with -1
            or ""; lengths int32 [B], the number of entities. The answer is that of `minialbert_tf.Tagger`.
        `tokens`: input_ids int32 [B, T] with [CLS] and [SEP], lengths int32 [B] → logits float32 [B, T, labels].

    Signatures of a sequence classifier or regression:
        `serving_default`: text string [B] → label_ids int32 [B], labels string [B], scores float32 [B, labels]
            (softmax, sigmoid or the plain values, by the config's problem_type), dropped_pieces int32 [B], how many
            pieces at the text's end are beyond what the model takes.
        `pairs`: text and text_pair string [B] → the same.
        `tokens`: as above → logits float32 [B, labels]; a second text follows the first [SEP].

    A text may have up to `minialbert_tf.export.serving.sequences_graph.MAX_TEXT_BYTES` bytes. Invalid UTF-8 counts as
    U+FFFD. The label map is assets/labels.json.

    Args:
        model: A `MiniAlbertForTokenClassification` or `MiniAlbertForSequenceClassification`.
        folder: NAME, whose last part is the model's name in requests.
        tokenizer: What `as_tokenizer` takes; the model's own by default.
        version: The version, a positive number; by default the one after the highest that exists.
        force: Whether that version and the server settings are replaced if they exist.

    Returns:
        The folder NAME/VERSION.

    Raises:
        InputError: If an argument is out of range, tensorflow-text is missing, or the version exists and `force` is
            false.
    """
    folder = Path(folder)
    if not _NAME.fullmatch(folder.name):
        raise InputError(f"The folder's name must be letters, digits, _, . and -. Received: {folder.name!r}")
    version = _next_version(folder) if version is None else version
    if type(version) is not int or not 0 < version < 2**63:
        raise InputError(f"version must be a positive whole number. Received: {version!r}")
    target = check_free(folder / str(version), force)
    tokenizer = model.tokenizer if tokenizer is None else as_tokenizer(tokenizer)
    if tokenizer is None:
        raise InputError("The model has no tokenizer of its own: pass tokenizer=, such as a folder with vocab.txt.")
    graph = _graph(model, tokenizer)
    signatures = graph.signatures()
    with replacing(target, force) as new:
        _save(model, signatures, tokenizer, graph.label_map, new)
        (new / WARMUP_FILE).parent.mkdir()
        write_warmup(new / WARMUP_FILE, folder.name, list(signatures), model.config.max_position_embeddings)
    write_server_files(folder, list(signatures), force)
    return target


def _graph(model: PretrainedModel, tokenizer: WordPieceTokenizer) -> TokenGraph | TextGraph:
    if len(tokenizer.vocabulary) > model.config.vocab_size:
        raise InputError(
            "The tokenizer's pieces must fit the model's vocab_size. "
            f"Received: {len(tokenizer.vocabulary)} for {model.config.vocab_size}"
        )
    if isinstance(model, MiniAlbertForTokenClassification):
        return TokenGraph(model, tokenizer)
    if isinstance(model, MiniAlbertForSequenceClassification):
        return TextGraph(model, tokenizer)
    raise InputError(
        "Only a MiniAlbertForTokenClassification or MiniAlbertForSequenceClassification can be exported. "
        f"Received: {type(model).__name__}"
    )


def _save(
    model: PretrainedModel,
    signatures: dict[str, Any],
    tokenizer: WordPieceTokenizer,
    label_map: dict[str, Any],
    folder: Path,
) -> None:
    with tempfile.TemporaryDirectory(prefix="minialbert-") as scratch:
        assets = Path(scratch)
        tokenizer.save(assets / "tokenizer")
        for name in (VOCABULARY_FILE, TOKENIZER_CONFIG_FILE):
            shutil.copy(assets / "tokenizer" / name, assets / name)
        write_json(assets / CONFIG_FILE, model.config.to_dict())
        write_json(assets / LABELS_FILE, label_map)
        module = tf.Module()
        # The variables alone: a tracked Keras 3 model brings a function for each assignment to each of them.
        module.weights = [tf_variable(variable) for variable in model.variables]
        module.files = [tf.saved_model.Asset(str(path)) for path in assets.iterdir() if path.is_file()]
        tf.saved_model.save(module, str(folder), signatures=signatures)


def _next_version(folder: Path) -> int:
    versions = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return max(versions, default=0) + 1

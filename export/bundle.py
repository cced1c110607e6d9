"""The single-file format of exported models: a .tflite with its card, vocabulary, labels and configuration inside.

A zip archive follows the flatbuffer, as is the convention of TFLite metadata: interpreters ignore it, zip tools read
it. It holds card.json (what the model is and how to feed it), vocab.txt, labels.txt and config.json. The card states
the size and SHA-256 of the flatbuffer, because LiteRT may crash on a damaged one.
"""

import hashlib
import io
import json
import mmap
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialbert_tf.errors import InputError
from minialbert_tf.files import replacing
from minialbert_tf.tokenization import WordPieceTokenizer, read_vocabulary

FORMAT = "minialbert-tflite"
VERSION = 1
TASKS = ("token-classification", "text-classification")

CARD_FILE = "card.json"
VOCABULARY_FILE = "vocab.txt"
LABELS_FILE = "labels.txt"
CONFIG_FILE = "config.json"
# Largest sizes read, so that an archive that unpacks to gigabytes is refused before it does.
_MAX_BYTES = {CARD_FILE: 1 << 20, VOCABULARY_FILE: 16 << 20, LABELS_FILE: 1 << 20, CONFIG_FILE: 1 << 20}

_FLATBUFFER_IDENTIFIER = b"TFL3"
_ENCRYPTED = 0x1
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
_CARD_TYPES = {
    "format": str,
    "version": int,
    "task": str,
    "labels": list,
    "tokenizer": dict,
    "sequence_lengths": list,
    "quantization": str,
    "model": dict,
}
_TOKENIZER_TYPES = {
    "lowercase": bool,
    "strip_accents": bool,
    "tokenize_chinese_chars": bool,
    "vocabulary_size": int,
    "pad_id": int,
    "unk_id": int,
    "cls_id": int,
    "sep_id": int,
    "mask_id": int,
}
_MODEL_TYPES = {"bytes": int, "sha256": str}


@dataclass(frozen=True)
class Card:
    """What card.json states beside the tokenizer's settings, which `Bundle.tokenizer` holds.

    Attributes:
        task: One of `TASKS`.
        labels: Label names by id.
        sequence_lengths: The L of the signatures `length_L`, ascending; [CLS] and [SEP] included.
        quantization: How the weights are stored, such as "float32" or "int8".
        model_bytes: Size of the flatbuffer.
        model_sha256: SHA-256 of the flatbuffer, in hexadecimal.
    """

    task: str
    labels: tuple[str, ...]
    sequence_lengths: tuple[int, ...]
    quantization: str
    model_bytes: int
    model_sha256: str


@dataclass(frozen=True)
class Bundle:
    """A checked file: the flatbuffer is the first `card.model_bytes` of `path`.

    Attributes:
        path: The file.
        card: What the model is.
        tokenizer: The tokenizer that the model was trained with.
        config: Content of the model's config.json.
    """

    path: Path
    card: Card
    tokenizer: WordPieceTokenizer
    config: dict[str, Any]


def write_bundle(
    path: str | Path,
    flatbuffer: bytes,
    *,
    task: str,
    labels: Sequence[str],
    sequence_lengths: Sequence[int],
    quantization: str,
    tokenizer: WordPieceTokenizer,
    config: dict[str, Any],
    force: bool = False,
) -> Card:
    """Writes a model and what is needed to use it into one file; the same arguments give the same bytes.

    Args:
        path: The file, by convention ending in .tflite.
        flatbuffer: The converted model, with one signature `length_L` for each sequence length.
        task: One of `TASKS`.
        labels: Label names by id.
        sequence_lengths: The L of the signatures, ascending.
        quantization: How the weights are stored, such as "float32" or "int8".
        tokenizer: The tokenizer that the model was trained with.
        config: Content of the model's config.json.
        force: Whether an existing file is replaced.

    Raises:
        InputError: If the file exists and `force` is false, or the arguments contradict each other.
    """
    card_json = {
        "format": FORMAT,
        "version": VERSION,
        "task": task,
        "labels": list(labels),
        "tokenizer": _describe(tokenizer),
        "sequence_lengths": list(sequence_lengths),
        "quantization": quantization,
        "model": {"bytes": len(flatbuffer), "sha256": hashlib.sha256(flatbuffer).hexdigest()},
    }
    card = _parse_card(card_json, path)
    _check_config(config, tokenizer, path)
    if flatbuffer[4:8] != _FLATBUFFER_IDENTIFIER:
        raise InputError(f"The model must be a TFLite flatbuffer. Received: {flatbuffer[:8]!r}…")
    files = {
        CARD_FILE: _to_json(card_json),
        VOCABULARY_FILE: "".join(f"{piece}\n" for piece in tokenizer.vocabulary),
        LABELS_FILE: "".join(f"{label}\n" for label in card.labels),
        CONFIG_FILE: _to_json(config),
    }
    content = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(content, "a", compression=zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, _FIXED_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, whatever this machine is
            archive.writestr(entry, text.encode("utf-8"))
    with replacing(path, force) as new:
        new.write_bytes(content.getbuffer())
    return card


def read_bundle(path: str | Path) -> Bundle:
    """Reads and checks a file that `write_bundle` wrote.

    The checks find damage and contradictions. They cannot tell a model that was made to do harm: LiteRT trusts its
    flatbuffers, so run only files from sources that you trust.

    Raises:
        InputError: If it is no such file, is damaged, or is of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The model must be a .tflite file. Received: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            texts, model_end = _read_archive(archive, path)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise _unusable(path, error) from error
    card_json = _parse_json(texts[CARD_FILE], CARD_FILE, path)
    card = _parse_card(card_json, path)
    _check_flatbuffer(path, card, model_end)
    labels = tuple(texts[LABELS_FILE].split("\n")[:-1])
    if labels != card.labels:
        raise InputError(f"{LABELS_FILE} must list the labels of {CARD_FILE}. Received: {path}")
    settings = card_json["tokenizer"]
    tokenizer = WordPieceTokenizer(
        read_vocabulary(texts[VOCABULARY_FILE]),
        settings["lowercase"],
        settings["strip_accents"],
        settings["tokenize_chinese_chars"],
    )
    if _describe(tokenizer) != settings:
        raise InputError(f"{VOCABULARY_FILE} must fit the tokenizer of {CARD_FILE}. Received: {path}")
    config = _parse_json(texts[CONFIG_FILE], CONFIG_FILE, path)
    _check_config(config, tokenizer, path)
    return Bundle(path, card, tokenizer, config)


def _describe(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    return {
        "lowercase": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "tokenize_chinese_chars": tokenizer.tokenize_chinese_chars,
        "vocabulary_size": len(tokenizer.vocabulary),
        "pad_id": tokenizer.pad_id,
        "unk_id": tokenizer.unk_id,
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
        "mask_id": tokenizer.mask_id,
    }


def _read_archive(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, str], int]:
    """Returns the texts of the known files, and where the archive begins, which is where the flatbuffer ends."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    texts = {}
    for name, limit in _MAX_BYTES.items():
        if names.count(name) != 1:
            raise ValueError(f"{name} is {'missing' if name not in names else 'there twice'}")
        entry = archive.getinfo(name)
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is encrypted or compressed in an unknown way")
        if entry.file_size > limit:
            raise ValueError(f"{name} is larger than {limit} bytes")
        with archive.open(entry) as file:
            # Without a bound, read() unpacks all that the entry holds, whatever size it states.
            texts[name] = file.read(entry.file_size + 1).decode("utf-8")
    return texts, min(entry.header_offset for entry in entries)


def _check_flatbuffer(path: Path, card: Card, model_end: int) -> None:
    if card.model_bytes == model_end:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), model_end, access=mmap.ACCESS_READ) as flatbuffer,
        ):
            if hashlib.sha256(flatbuffer).hexdigest() == card.model_sha256:
                return
    raise InputError(f"The model must match the size and SHA-256 in its card; the file is damaged. Received: {path}")


def _check_config(config: dict[str, Any], tokenizer: WordPieceTokenizer, path: str | Path) -> None:
    size = config.get("vocab_size")
    if not isinstance(size, int) or size < len(tokenizer.vocabulary):
        raise InputError(
            f"vocab_size of {CONFIG_FILE} must cover the vocabulary in {path}. "
            f"Received: {size!r} for {len(tokenizer.vocabulary)} pieces"
        )


def _parse_card(value: dict[str, Any], path: str | Path) -> Card:
    if value.get("format") != FORMAT or value.get("version") != VERSION:
        raise InputError(
            f"{CARD_FILE} must be of format {FORMAT} version {VERSION} in {path}. "
            f"Received: {value.get('format')!r} version {value.get('version')!r}"
        )
    _check_types(value, _CARD_TYPES, "", path)
    _check_types(value["tokenizer"], _TOKENIZER_TYPES, "tokenizer.", path)
    _check_types(value["model"], _MODEL_TYPES, "model.", path)
    labels, lengths = value["labels"], value["sequence_lengths"]
    if value["task"] not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)} in {path}. Received: {value['task']!r}")
    if not labels or len(set(map(repr, labels))) < len(labels) or not all(map(_is_line, labels)):
        raise InputError(f"labels must be different non-empty lines of text in {path}. Received: {labels!r}")
    if not lengths or not all(type(length) is int and length > 0 for length in lengths):
        raise InputError(f"sequence_lengths must be positive whole numbers in {path}. Received: {lengths!r}")
    if lengths != sorted(set(lengths)):
        raise InputError(f"sequence_lengths must ascend in {path}. Received: {lengths!r}")
    return Card(
        task=value["task"],
        labels=tuple(labels),
        sequence_lengths=tuple(lengths),
        quantization=value["quantization"],
        model_bytes=value["model"]["bytes"],
        model_sha256=value["model"]["sha256"],
    )


def _check_types(value: dict[str, Any], types: dict[str, type], prefix: str, path: str | Path) -> None:
    missing, unknown = types.keys() - value.keys(), value.keys() - types.keys()
    if missing or unknown:
        raise InputError(
            f"{CARD_FILE} must have exactly its keys in {path}. Missing: {sorted(missing)}; unknown: {sorted(unknown)}"
        )
    for key, expected in types.items():
        if type(value[key]) is not expected:  # isinstance would take true for 1
            raise InputError(
                f"{prefix}{key} of {CARD_FILE} must be {expected.__name__} in {path}. Received: {value[key]!r}"
            )


def _is_line(label: Any) -> bool:
    return isinstance(label, str) and label.strip() == label != "" and "\n" not in label and "\r" not in label


def _to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _parse_json(text: str, name: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{name} must be valid JSON in {path}. Received: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} must hold a JSON object in {path}. Received: {type(value).__name__}")
    return value


def _unusable(path: Path, error: Exception) -> InputError:
    with path.open("rb") as file:
        is_flatbuffer = file.read(8)[4:] == _FLATBUFFER_IDENTIFIER
    if is_flatbuffer:
        return InputError(
            "A .tflite file must carry its card and vocabulary; export one with `minialbert export tflite`, or copy "
            f"the file again if it was damaged. Received: {path} ({error})"
        )
    return InputError(f"The model must be a .tflite file. Received: {path} ({error})")

"""Files written by torch.save, the zip format and the one before torch 1.6, as NumPy arrays without torch."""

import io
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import ml_dtypes  # noqa: F401  (makes NumPy know bfloat16)
import numpy as np

from minialbert_tf.checkpoints import pickles
from minialbert_tf.checkpoints.pickles import MAX_DESCRIPTION, Storage, Tensor, quoted
from minialbert_tf.errors import CheckpointError

_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL: Final = 1001
_LOCAL_HEADER: Final = 30  # bytes of a zip entry's own header, without its name


class _BoundedReader(io.BufferedReader):
    """A file that refuses to read more than a checkpoint's description needs: zipfile reads its directory at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DESCRIPTION:
            raise CheckpointError(f"The zip directory must not exceed {MAX_DESCRIPTION} bytes.")
        return super().read(size)


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """Reads the format of torch >= 1.6: `<root>/data.pkl` and one uncompressed entry `<root>/data/<key>` per storage.

    Tensors that share a storage share memory; strided views stay views.

    Raises:
        CheckpointError: If the file is damaged, is no plain state dict, or its sizes contradict each other.
    """
    try:
        with _BoundedReader(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            return _read_archive(archive, os.fstat(file.fileno()).st_size)
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, RuntimeError) as error:
        # zipfile lets the last three through: odd fields, offsets or names, encryption, unknown zip versions.
        raise CheckpointError(f"The zip archive is damaged or cut off: {quoted(str(error))}.") from None


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """Reads the format before torch 1.6: five pickles, then every storage as its int64 size and raw elements.

    Raises:
        CheckpointError: If the file is damaged, is no plain state dict, or its sizes contradict each other.
    """
    with path.open("rb") as file:
        described = file.read(MAX_DESCRIPTION)
        magic, end = pickles.load(described)
        if magic != _LEGACY_MAGIC:
            raise CheckpointError("The pickle must begin with the magic number that torch.save writes.")
        protocol, end = pickles.load(described, end)
        if protocol != _LEGACY_PROTOCOL:
            raise CheckpointError(f"The file's protocol version must be {_LEGACY_PROTOCOL}.")
        system, end = pickles.load(described, end)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise CheckpointError("The file must be written on a little-endian machine.")
        content, end = pickles.load(described, end)
        keys, end = pickles.load(described, end)
        tensors = _state_dict(content)
        storages = _storages(tensors)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise CheckpointError("The file must list the keys of its storages.")
        if sorted(keys) != sorted(storages):
            raise CheckpointError("The storages that the file lists must be those that its tensors use.")
        file.seek(end)
        return _arrays(tensors, {key: _read_legacy_storage(file, storages[key]) for key in keys})


def _read_archive(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    entries = _checked_entries(archive, size)
    roots = [name.removesuffix("data.pkl") for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(roots) != 1:
        raise CheckpointError("A zip checkpoint must hold exactly one data.pkl; this is no file of torch.save.")
    root = roots[0]
    byte_order = entries.get(f"{root}byteorder")
    if byte_order is not None and (byte_order.file_size != 6 or archive.read(byte_order) != b"little"):
        raise CheckpointError("The file must be written on a little-endian machine.")
    description = entries[f"{root}data.pkl"]
    if description.file_size > MAX_DESCRIPTION:
        raise CheckpointError(f"data.pkl must not exceed {MAX_DESCRIPTION} bytes.")
    content, _ = pickles.load(archive.read(description))
    tensors = _state_dict(content)
    storages = _storages(tensors)
    arrays = {key: _read_entry(archive, entries.get(f"{root}data/{key}"), storages[key]) for key in storages}
    return _arrays(tensors, arrays)


def _checked_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Refuses what a zip bomb needs: compression, entries that overlap, and names that occur twice."""
    in_order = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in in_order[1:]] + [size]
    for entry, end in zip(in_order, ends, strict=True):
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise CheckpointError(f"Entries must be uncompressed, as torch.save writes them: {quoted(entry.filename)}.")
        if entry.header_offset < 0 or entry.header_offset + _LOCAL_HEADER + entry.file_size > end:
            raise CheckpointError(f"Entries must not overlap or exceed the file: {quoted(entry.filename)}.")
    entries = {entry.filename: entry for entry in in_order}
    if len(entries) != len(in_order):
        raise CheckpointError("The names of a zip checkpoint's entries must differ.")
    return entries


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None, storage: Storage) -> np.ndarray:
    if entry is None:
        raise CheckpointError(f"Storage {quoted(storage.key)} must be in the file, and is not.")
    if entry.file_size != _size(storage):
        raise CheckpointError(
            f"Storage {quoted(storage.key)} must have {_size(storage)} bytes for its {storage.numel} elements; "
            f"it has {entry.file_size}."
        )
    with archive.open(entry) as source:
        return _read_elements(source, storage)


def _read_legacy_storage(file: IO[bytes], storage: Storage) -> np.ndarray:
    numel = int.from_bytes(file.read(8), "little", signed=True)
    rest = os.fstat(file.fileno()).st_size - file.tell()
    if numel != storage.numel or _size(storage) > rest:
        raise CheckpointError(
            f"Storage {quoted(storage.key)} must have {storage.numel} elements, {_size(storage)} bytes; "
            f"the file says {numel} elements and has {rest} bytes left."
        )
    return _read_elements(file, storage)


def _size(storage: Storage) -> int:
    return storage.numel * np.dtype(storage.dtype).itemsize


def _read_elements(source: IO[bytes], storage: Storage) -> np.ndarray:
    # Bytes other than 0 and 1 must not become NumPy bools as they are, so bool is read as numbers and cast.
    stored = np.dtype("uint8" if storage.dtype == "bool" else storage.dtype)
    elements = np.empty(storage.numel, "float32" if storage.dtype == "bfloat16" else storage.dtype)
    count = MAX_DESCRIPTION // stored.itemsize
    for start in range(0, storage.numel, count):  # in pieces, because a cast of the whole would take it twice
        part = elements[start : start + count]
        piece = source.read(part.size * stored.itemsize)
        if len(piece) != part.size * stored.itemsize:
            raise CheckpointError(f"Storage {quoted(storage.key)} is cut off.")
        part[:] = np.frombuffer(piece, stored)
    return elements


def _state_dict(content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict) and list(content) == ["state_dict"]:
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(f"A checkpoint must be a state dict, names to tensors; it is a {type(content).__name__}.")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"Entries must be tensors; {quoted(name)} is a {type(value).__name__}.")
    return content


def _storages(tensors: Mapping[str, Tensor]) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for tensor in tensors.values():
        first = storages.setdefault(tensor.storage.key, tensor.storage)
        if (first.dtype, first.numel) != (tensor.storage.dtype, tensor.storage.numel):
            raise CheckpointError(f"Storage {quoted(first.key)} must have one type and size; tensors disagree on it.")
    return storages


def _arrays(tensors: Mapping[str, Tensor], storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: _view(name, tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(name: str, tensor: Tensor, elements: np.ndarray) -> np.ndarray:
    numel = math.prod(tensor.shape)
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    # An expanded tensor (stride 0) may have no more elements than it has memory: a copy of it could be terabytes.
    if numel > tensor.storage.length or (numel and tensor.offset + last >= tensor.storage.length):
        raise CheckpointError(
            f"Tensor {quoted(name)} must lie inside its storage of {tensor.storage.length} elements: "
            f"offset {tensor.offset}, shape {tensor.shape}, strides {tensor.strides}."
        )
    try:
        if numel == 0:
            return np.empty(tensor.shape, elements.dtype)
        start = tensor.storage.first + tensor.offset
        strides = [stride * elements.itemsize for stride in tensor.strides]
        return np.ndarray(tensor.shape, elements.dtype, elements, start * elements.itemsize, strides)
    except ValueError as error:  # sizes beyond NumPy's, beside a size of 0 or 1
        raise CheckpointError(f"Tensor {quoted(name)} of shape {tensor.shape} is impossible: {error}.") from None

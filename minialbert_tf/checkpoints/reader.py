"""Weight files: safetensors and PyTorch `.bin` into NumPy arrays, and arrays into safetensors. Needs no torch.

Checkpoints are downloaded, so every file counts as hostile: it is read completely or refused with a CheckpointError.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import ml_dtypes  # noqa: F401  (makes NumPy know bfloat16)
import numpy as np
import safetensors
import safetensors.numpy

from minialbert_tf.checkpoints.hub import INDEX_SUFFIX, SAFETENSORS_FILE, TORCH_FILE
from minialbert_tf.checkpoints.pickles import quoted
from minialbert_tf.checkpoints.torch_files import read_legacy, read_zip
from minialbert_tf.errors import CheckpointError
from minialbert_tf.files import replacing

_SAFETENSORS_TYPES: Final = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def find_weights(folder_or_file: str | Path) -> Path:
    """Returns the weight file of a checkpoint folder, `model.safetensors` rather than `pytorch_model.bin`.

    Raises:
        CheckpointError: If the folder has neither, or only a checkpoint in several shards.
    """
    path = Path(folder_or_file)
    if path.is_dir():
        candidates = [path / name for name in (SAFETENSORS_FILE, TORCH_FILE)]
        indexes = [file.with_name(file.name + INDEX_SUFFIX) for file in candidates]
        path = next((file for file in [*candidates, *indexes] if file.is_file()), path)
    if path.name.endswith(INDEX_SUFFIX):
        raise CheckpointError(
            f"Sharded checkpoints are not supported; merge the shards into one {SAFETENSORS_FILE}. Received: {path}"
        )
    if not path.is_file():
        raise CheckpointError(f"A checkpoint folder must hold {SAFETENSORS_FILE} or {TORCH_FILE}. Received: {path}")
    return path


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a weight file, safetensors or of torch.save, whatever it is named.

    bfloat16 becomes float32; float16, 32, 64, int8 to int64, uint8 and bool stay as they are. Tensors that share a
    storage in a PyTorch file share memory, and strided ones stay strided views.

    Args:
        path: The file.

    Returns:
        Arrays by name, in the file's order.

    Raises:
        CheckpointError: If it is no such file, damaged, or a pickle that asks for more than rebuilding tensors.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise CheckpointError("A checkpoint must be an existing file.")
        return _reader(path)(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} Received: {path}") from None
    except OSError as error:
        raise CheckpointError(f"The checkpoint cannot be read: {error.strerror or error}. Received: {path}") from None


def write_safetensors(path: str | Path, tensors: Mapping[str, np.ndarray], force: bool = False) -> None:
    """Writes arrays as a safetensors file that PyTorch code takes for its own.

    Args:
        path: The file.
        tensors: Arrays by name; views are written as the values they show.
        force: Whether an existing file is replaced.

    Raises:
        InputError: If `path` exists and `force` is false.
        CheckpointError: If an array's type has no place in safetensors, or the file cannot be written.
    """
    # The library writes an array's memory as it lies there, so it must be in C order.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path, force) as new:
        new.touch()
        usual_mode = new.stat().st_mode
        try:
            safetensors.numpy.save_file(contiguous, new, metadata={"format": "pt"})
            new.chmod(usual_mode)  # the library writes for its user's eyes only
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"The tensors cannot be written: {error}. Received: {path}") from error


def _reader(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    with path.open("rb") as file:
        head = file.read(512)
    if head[5:9] == b"\0\0\0{":  # the JSON header's size as 8 bytes, and its first byte
        return _read_safetensors
    if head.startswith(b"PK\x03\x04"):
        return read_zip
    if head.startswith(b"\x80"):
        return read_legacy
    raise CheckpointError(_what_it_is(head) + " A checkpoint must be a safetensors file or written by torch.save.")


def _what_it_is(head: bytes) -> str:
    if not head:
        return "The file is empty."
    if head.startswith(b"version https://git-lfs"):
        return "This is a git-lfs pointer and not the file itself; get that with `git lfs pull`."
    if head.lstrip().startswith(b"<"):
        return "This is a web page; the download went wrong."
    if head[257:262] == b"ustar":
        return "This is a tar archive, as PyTorch before 0.1.10 wrote them; load it there and save it with a newer one."
    return "The file is in no known format."


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with safetensors.safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                kind = file.get_slice(name).get_dtype()
                if kind not in _SAFETENSORS_TYPES:
                    raise CheckpointError(
                        f"Tensors must be of {', '.join(_SAFETENSORS_TYPES)}; {quoted(name)} is {kind}."
                    )
                array = file.get_tensor(name)
                arrays[name] = array.astype(np.float32) if kind == "BF16" else array
    except (safetensors.SafetensorError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"The safetensors file is damaged: {quoted(str(error))}.") from None
    return arrays

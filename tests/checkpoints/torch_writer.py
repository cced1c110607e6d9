"""Writes files as torch.save does, and as an attacker would, without torch."""

import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
ITEM_SIZE = {"FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "BoolStorage": 1}


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: Any
    arguments: Any


class Persistent(NamedTuple):
    identifier: Any


class Raw(NamedTuple):
    """Pickle instructions as they are."""

    instructions: bytes


ORDERED_DICT = Global("collections", "OrderedDict")
EMPTY_HOOKS = Call(ORDERED_DICT, ())


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def encode(value: Any) -> bytes:
    """Returns the instructions that push `value`."""
    match value:
        case Raw():
            return value.instructions
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return encode(value.function) + encode(value.arguments) + b"R"
        case Persistent():
            return encode(value.identifier) + b"Q"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return integer(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return text(value)
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value))


def dump(value: Any) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def storage(kind: str = "FloatStorage", key: Any = "0", numel: Any = 6, *view: Any) -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cpu", numel, *view))


def tensor(
    of: Any = None, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1), metadata: tuple[Any, ...] = ()
) -> Call:
    of = storage() if of is None else of
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (of, offset, shape, strides, False, EMPTY_HOOKS, *metadata))


SIX = np.arange(6, dtype="<f4").tobytes()


def write_zip(
    path: Path,
    content: Any,
    storages: dict[str, bytes] | None = None,
    root: str = "archive",
    others: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    storages = {"0": SIX} if storages is None else storages
    others = {"byteorder": b"little", "version": b"3\n"} if others is None else others
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", content if isinstance(content, bytes) else dump(content))
        for name, data in {**others, **{f"data/{key}": data for key, data in storages.items()}}.items():
            archive.writestr(f"{root}/{name}", data)
    return path


def legacy_pickles(content: Any, keys: Any = ("0",)) -> list[bytes]:
    """The five pickles; a test may replace one."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return [dump(MAGIC), dump(1001), dump(system), dump(content), dump(list(keys))]


def write_legacy(path: Path, pickles: list[bytes], storages: tuple[tuple[int, bytes], ...] = ((6, SIX),)) -> Path:
    path.write_bytes(b"".join(pickles) + b"".join(struct.pack("<q", numel) + raw for numel, raw in storages))
    return path

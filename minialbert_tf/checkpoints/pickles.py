"""A restricted unpickler: it can rebuild the description of a PyTorch state dict and nothing else.

A pickle is a program, and checkpoints are downloaded. So this is no subclass of `pickle.Unpickler` but a machine of
its own that knows the few instructions torch.save writes for a state dict. It imports nothing, calls nothing but the
three builders below, and makes only plain values, `StorageType`, `Storage` and `Tensor`.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from minialbert_tf.errors import CheckpointError

# A state dict's description is about 200 bytes per tensor; one byte of it makes at most some 80 bytes of objects.
MAX_DESCRIPTION: Final = 1 << 20
MAX_DIMENSIONS: Final = 8


@dataclass(frozen=True, slots=True)
class StorageType:
    """One of torch's storage classes, by the NumPy name of its elements, or "bfloat16"."""

    dtype: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A reference to `numel` raw elements that the checkpoint keeps under `key`.

    A tensor may use `length` of them from `first` on: all of them, except in files that torch < 1.0 wrote.
    """

    key: str
    dtype: str
    numel: int
    first: int
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A strided view of a storage, counted in elements, not yet checked against the storage's size."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def quoted(name: str) -> str:
    """Returns a name from a hostile file as one short printable line."""
    return repr(name if len(name) <= 200 else name[:200] + "…")


def load(data: bytes, start: int = 0) -> tuple[Any, int]:
    """Reads the pickle that begins at `data[start]`.

    Args:
        data: One or several pickles.
        start: Offset of the wanted one.

    Returns:
        The object, of dicts, lists, tuples, text, numbers, None and what this module defines; and where it ends.

    Raises:
        CheckpointError: If it is damaged, or asks for anything that rebuilding a state dict does not need.
    """
    machine = _Machine(data, start)
    try:
        while (opcode := machine.take(1)) != b".":
            instruction = _INSTRUCTIONS.get(opcode)
            if instruction is None:
                raise CheckpointError(f"A state dict's pickle must not use instruction {opcode!r}.")
            instruction(machine)
        return machine.stack.pop(), machine.at
    except (IndexError, KeyError, UnicodeDecodeError):  # an empty stack, an unknown memo, text that is not UTF-8
        raise CheckpointError(f"The pickle is damaged at byte {machine.at}.") from None


class _Machine:
    """The pickle machine's state; MARK puts the current stack aside, as in the standard library's pickle.py."""

    def __init__(self, data: bytes, start: int):
        self.data = data
        self.at = start
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise CheckpointError(f"The pickle is cut off, or longer than {MAX_DESCRIPTION} bytes.")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def text(self, size: int) -> str:
        return self.take(self.number(size)).decode("utf-8")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at)
        line = self.take(end - self.at if end >= 0 else len(self.data))
        self.take(1)
        return line.decode("utf-8")

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.stack.pop() for _ in range(count)]))

    def extend(self, items: Sequence[Any]) -> None:
        self.top(list).extend(items)

    def update(self, items: Sequence[Any]) -> None:
        names, values = items[::2], items[1::2]
        # Text only: hashing deeply nested tuples overflows the C stack, and integers can be chosen to collide.
        if len(names) != len(values) or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"A state dict must map names to tensors, and nothing else, at byte {self.at}.")
        self.top(dict).update(zip(names, values, strict=True))

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise CheckpointError(f"A state dict's pickle must fill a {kind.__name__} at byte {self.at}.")
        return self.stack[-1]

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def reduce(self) -> None:
        function, arguments = self.last(2)
        # Only the builders among the globals are callable.
        if not callable(function) or not isinstance(arguments, tuple):
            raise CheckpointError(f"A state dict's pickle must call tensor builders only, at byte {self.at}.")
        self.stack.append(function(arguments))

    def build(self) -> None:
        self.stack.pop()  # attributes of the state dict: _metadata, the versions of torch modules
        self.top(dict)

    def inst(self) -> None:
        _global(self.line(), self.line())
        raise CheckpointError("A state dict's pickle must not use instruction b'i'.")


def _global(module: Any, name: Any) -> Any:
    full_name = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""
    if full_name not in _GLOBALS:
        raise CheckpointError(
            f"A checkpoint must be a plain state dict. It asks for {quoted(full_name)}, which is refused: "
            "running it could do anything. From a trusted source, save model.state_dict() instead of the model."
        )
    return _GLOBALS[full_name]


def _storage(identifier: Any) -> Storage:
    match identifier:
        case ("storage", StorageType(dtype), str(key), str(), int(numel)):
            first, length = 0, numel
        case ("storage", StorageType(dtype), str(key), str(), int(numel), None):
            first, length = 0, numel
        case ("storage", StorageType(dtype), str(key), str(), int(numel), (str(), int(first), int(length))):
            pass
        case _:
            raise CheckpointError("A persistent id must be ('storage', type, key, location, number of elements).")
    if min(first, length) < 0 or first + length > numel:
        raise CheckpointError(f"A storage must have a size ≥ 0 and views inside it; {quoted(key)} has not.")
    return Storage(key, dtype, numel, first, length)


def _empty_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise CheckpointError("A state dict's OrderedDict must be created empty.")
    return {}


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    # torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks, metadata=None)
    if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage):
        raise CheckpointError("A tensor must be rebuilt from a storage, an offset, a shape and strides.")
    storage, offset, shape, strides = arguments[:4]
    if not (_are_sizes((offset,)) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
        raise CheckpointError(
            f"A tensor must have an offset and at most {MAX_DIMENSIONS} sizes and strides, none of them negative; "
            f"one of storage {quoted(storage.key)} has not."
        )
    if any(arguments[6:]):
        raise CheckpointError("A tensor must not be a lazy conjugate or negative; resolve it before saving.")
    return Tensor(storage, offset, shape, strides)


def _are_sizes(values: Any) -> bool:
    if not isinstance(values, tuple) or len(values) > MAX_DIMENSIONS:
        return False
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    # torch._utils._rebuild_parameter(data, requires_grad, backward_hooks)
    if len(arguments) != 3 or not isinstance(arguments[0], Tensor):
        raise CheckpointError("A parameter must be rebuilt from a tensor.")
    return arguments[0]


_GLOBALS: Final[dict[str, Any]] = {
    "collections.OrderedDict": _empty_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.DoubleStorage": StorageType("float64"),
    "torch.FloatStorage": StorageType("float32"),
    "torch.HalfStorage": StorageType("float16"),
    "torch.BFloat16Storage": StorageType("bfloat16"),
    "torch.LongStorage": StorageType("int64"),
    "torch.IntStorage": StorageType("int32"),
    "torch.ShortStorage": StorageType("int16"),
    "torch.CharStorage": StorageType("int8"),
    "torch.ByteStorage": StorageType("uint8"),
    "torch.BoolStorage": StorageType("bool"),
}


def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def instruction(machine: _Machine) -> None:
        pushed = value(machine)  # before the stack is looked up, because a mark may replace it
        machine.stack.append(pushed)

    return instruction


# What torch.save writes for a state dict under pickle protocols 2 to 5.
_INSTRUCTIONS: Final[dict[bytes, Callable[[_Machine], Any]]] = {
    b"\x80": lambda m: m.take(1),  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"K": _push(lambda m: m.number(1)),  # BININT1
    b"M": _push(lambda m: m.number(2)),  # BININT2
    b"J": _push(lambda m: m.number(4, signed=True)),  # BININT
    b"\x8a": _push(lambda m: m.number(m.number(1), signed=True)),  # LONG1
    b"G": _push(lambda m: struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
    b"X": _push(lambda m: m.text(4)),  # BINUNICODE
    b"\x8c": _push(lambda m: m.text(1)),  # SHORT_BINUNICODE
    b"]": _push(lambda m: []),
    b"}": _push(lambda m: {}),
    b")": _push(lambda m: ()),
    b"\x85": _push(lambda m: m.last(1)),  # TUPLE1
    b"\x86": _push(lambda m: m.last(2)),  # TUPLE2
    b"\x87": _push(lambda m: m.last(3)),  # TUPLE3
    b"(": _Machine.mark,
    b"t": _push(lambda m: tuple(m.since_mark())),  # TUPLE
    b"a": lambda m: m.extend(m.last(1)),  # APPEND
    b"e": lambda m: m.extend(m.since_mark()),  # APPENDS
    b"s": lambda m: m.update(m.last(2)),  # SETITEM
    b"u": lambda m: m.update(m.since_mark()),  # SETITEMS
    b"q": lambda m: m.memoize(m.number(1)),  # BINPUT
    b"r": lambda m: m.memoize(m.number(4)),  # LONG_BINPUT
    b"\x94": lambda m: m.memoize(len(m.memo)),  # MEMOIZE
    b"h": _push(lambda m: m.memo[m.number(1)]),  # BINGET
    b"j": _push(lambda m: m.memo[m.number(4)]),  # LONG_BINGET
    b"c": _push(lambda m: _global(m.line(), m.line())),  # GLOBAL
    b"\x93": _push(lambda m: _global(*m.last(2))),  # STACK_GLOBAL
    b"Q": _push(lambda m: _storage(m.stack.pop())),  # BINPERSID
    b"R": _Machine.reduce,
    b"b": _Machine.build,
    b"i": _Machine.inst,
}

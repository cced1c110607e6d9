"""Makes a TFLite flatbuffer smaller without changing what it computes."""

from collections.abc import Iterator

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16  # the schema's force_align for weights, which the generated Python code leaves out


class _SharingBuilder(flatbuffers.Builder):
    """A builder that writes equal vectors once.

    The converter repeats every tensor's scales and zero points in each signature, 0.2 MB a signature in a full-size
    MiniALBERT, although the weights themselves are shared.
    """

    def __init__(self, initial_size: int) -> None:
        super().__init__(initial_size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = self._aligned(x) if x.dtype == np.uint8 else super().CreateNumpyVector(x)
        return self._written[key]

    def _aligned(self, x: np.ndarray) -> int:
        self.StartVector(1, x.size, _BUFFER_ALIGNMENT)
        start = self.Head() - x.size
        self.head = start
        self.Bytes[start : start + x.size] = x.tobytes()
        return self.EndVector()


def read_model(flatbuffer: bytes) -> schema.ModelT:
    """Returns the content of a flatbuffer, with weights that stand behind it moved into their buffers."""
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 mean that the data are inside
            buffer.data = np.frombuffer(flatbuffer, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write_model(model: schema.ModelT, size_hint: int = 1 << 20) -> bytes:
    """Returns a flatbuffer in which equal vectors stand once."""
    builder = _SharingBuilder(size_hint)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def kind_of(code: schema.OperatorCodeT) -> int:
    """Returns the `BuiltinOperator` of an operator code; the older field holds those below 128."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def compact(flatbuffer: bytes, default_length: int | None = None) -> bytes:
    """Returns an equivalent flatbuffer with shared buffers and vectors and without tensor names.

    Signatures find their inputs and outputs by names of their own.

    Args:
        flatbuffer: What the converter gave.
        default_length: The size, until a runtime changes it, of free dimensions of inputs and outputs. The converter
            makes it 1; a runtime that cannot change it would be of no use.
    """
    model = read_model(flatbuffer)
    _share_buffers(model)
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.name = None
        for index in (*subgraph.inputs, *subgraph.outputs):
            tensor = subgraph.tensors[index]
            if default_length is not None and tensor.shapeSignature is not None:
                tensor.shape = np.where(tensor.shapeSignature == -1, default_length, tensor.shape).astype(np.int32)
    return write_model(model, len(flatbuffer))


def _share_buffers(model: schema.ModelT) -> None:
    """Keeps one of equal buffers: a runtime packs and caches weights by buffer, however often it is named.

    Drops those that nothing names, too; buffer 0 is the empty one by convention.
    """
    kept = [model.buffers[0]]
    places: dict[bytes, int] = {}
    for holder in _holders(model):
        buffer = model.buffers[holder.buffer]
        if buffer.data is None or len(buffer.data) == 0:
            # Without data it is a variable or an activation, which only ever has its own or buffer 0.
            holder.buffer = 0
            continue
        content = np.asarray(buffer.data).tobytes()
        if content not in places:
            places[content] = len(kept)
            kept.append(buffer)
        holder.buffer = places[content]
    model.buffers = kept


def _holders(model: schema.ModelT) -> Iterator[schema.TensorT | schema.MetadataT]:
    for subgraph in model.subgraphs:
        yield from subgraph.tensors
    yield from model.metadata or []

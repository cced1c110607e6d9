"""Makes a TFLite flatbuffer smaller without changing what it computes."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_FILE_IDENTIFIER = b"TFL3"
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


def compact(flatbuffer: bytes) -> bytes:
    """Returns an equivalent flatbuffer with shared vectors and without tensor names.

    Signatures find their inputs and outputs by names of their own.
    """
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.name = None
    builder = _SharingBuilder(len(flatbuffer))
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())

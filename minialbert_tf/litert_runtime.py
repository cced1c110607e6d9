"""Running an exported .tflite file with LiteRT, without tensorflow."""

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.options import CpuOptions, Options
from ai_edge_litert.tensor_buffer import TensorBuffer

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import Bundle, read_bundle
from minialbert_tf.native_logs import quiet_stderr
from minialbert_tf.weight_cache import packed_weights

_INPUTS = ("input_ids", "attention_mask")
_OUTPUT = "logits"


class LiteRTRuntime:
    """Logits of token sequences from a .tflite file with one signature per sequence length, or one for any length.

    Signature `length_L` takes `input_ids` and `attention_mask`, int32 (1, L), and returns `logits`, float32
    (1, L, labels). A sequence runs in the shortest that holds it, padded, or at its own length where the signature
    leaves it free. Calls from several threads take turns.

    What XNNPACK has packed of the weights is kept for the next start, see `minialbert_tf.weight_cache`.

    Attributes:
        max_length: Longest sequence, [CLS] and [SEP] included.
    """

    def __init__(self, model: str | Path | Bundle, threads: int = 1) -> None:
        """Loads a file that `minialbert_tf.export.bundle` wrote.

        Args:
            model: The file, or what `read_bundle` has read from it.
            threads: Number of threads that one call uses.

        Raises:
            InputError: If the file is none of these, is damaged, or its signatures do not fit its card.
        """
        if threads < 1:
            raise InputError(f"threads must be at least 1. Received: {threads}")
        bundle = model if isinstance(model, Bundle) else read_bundle(model)
        self._lock = threading.Lock()
        self._buckets: list[_Bucket | _FreeLength] = []
        # LiteRT logs when its objects die, too: they are to die in _release, at the latest when the process ends.
        self._finalizer = weakref.finalize(self, _release, self._buckets)
        card = bundle.card
        with quiet_stderr(), packed_weights(card.model_sha256, card.model_bytes) as cache:
            options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_weight_cache_path=cache))
            try:
                compiled = CompiledModel.from_file(str(bundle.path), options=options)
                for length in card.sequence_lengths:
                    self._buckets.append(_bucket(compiled, length, len(card.labels), bundle.path))
            except RuntimeError as error:
                raise InputError(f"LiteRT must be able to load the model. Received: {bundle.path} ({error})") from error
        self.max_length = card.sequence_lengths[-1]

    def predict(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns the logits, float32 (length, labels), of each sequence of piece ids.

        Raises:
            InputError: If a sequence is longer than `max_length`, or the runtime is closed.
        """
        with self._lock:
            if not self._buckets:
                raise InputError("The runtime is closed.")
            return [self._shortest(len(sequence)).run(sequence) for sequence in sequences]

    def close(self) -> None:
        """Frees the model; nothing can be predicted afterwards."""
        with self._lock:
            self._finalizer()

    def _shortest(self, length: int) -> "_Bucket | _FreeLength":
        for bucket in self._buckets:
            if length <= bucket.length:
                return bucket
        raise InputError(f"A sequence must not exceed {self.max_length} pieces. Received: {length}")


class _Bucket:
    """One signature of a fixed length with its buffers, which every run reuses."""

    def __init__(self, compiled: CompiledModel, length: int, num_labels: int) -> None:
        self.length = length
        self._num_labels = num_labels
        self._compiled = compiled
        self._signature = f"length_{length}"
        self._inputs = {name: compiled.create_input_buffer_by_name(self._signature, name) for name in _INPUTS}
        self._outputs = {_OUTPUT: compiled.create_output_buffer_by_name(self._signature, _OUTPUT)}
        _write(self._inputs, (), length)  # the first write sets up what LiteRT shares in the process, with its log

    def run(self, sequence: Sequence[int]) -> np.ndarray:
        """Returns the logits (length, labels) of a sequence that fits."""
        _write(self._inputs, sequence, self.length)
        self._compiled.run_by_name(self._signature, self._inputs, self._outputs)
        logits = self._outputs[_OUTPUT].read(self.length * self._num_labels, np.float32)
        return logits.reshape(self.length, self._num_labels)[: len(sequence)]


class _FreeLength:
    """The signature of a model that takes sequences of any length up to one."""

    def __init__(self, compiled: CompiledModel, length: int, num_labels: int) -> None:
        self.length = length
        self._num_labels = num_labels
        self._compiled = compiled
        self._signature = f"length_{length}"
        self.run((0,))  # as in _Bucket

    def run(self, sequence: Sequence[int]) -> np.ndarray:
        """Returns the logits (length, labels) of a sequence that fits."""
        inputs = {}
        for name in _INPUTS:
            self._compiled.resize_input_tensor_by_name(self._signature, name, (1, len(sequence)))
            inputs[name] = self._compiled.create_input_buffer_by_name(self._signature, name)
        _write(inputs, sequence, len(sequence))
        # LiteRT makes output buffers for the length that the file states, and would write beyond them.
        count = len(sequence) * self._num_labels
        output = TensorBuffer.create_from_host_memory(np.zeros((1, len(sequence), self._num_labels), np.float32))
        self._compiled.run_by_name(self._signature, inputs, {_OUTPUT: output})
        return output.read(count, np.float32).reshape(len(sequence), self._num_labels)


def _bucket(compiled: CompiledModel, length: int, num_labels: int, path: Path) -> "_Bucket | _FreeLength":
    _check_signature(compiled, f"length_{length}", (1, length), (1, length, num_labels), path)
    free = _is_free(compiled, f"length_{length}", length)
    return (_FreeLength if free else _Bucket)(compiled, length, num_labels)


def _is_free(compiled: CompiledModel, signature: str, length: int) -> bool:
    """Tells whether the length may change, which LiteRT says only by refusing to change it."""
    try:
        compiled.resize_input_tensor_by_name(signature, _INPUTS[0], (1, length + 1))
    except RuntimeError:
        return False
    return True


def _write(inputs: dict[str, TensorBuffer], sequence: Sequence[int], length: int) -> None:
    padding = length - len(sequence)
    inputs["input_ids"].write(np.array([[*sequence, *[0] * padding]], np.int32))
    inputs["attention_mask"].write(np.array([[1] * len(sequence) + [0] * padding], np.int32))


def _check_signature(
    compiled: CompiledModel, signature: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...], path: Path
) -> None:
    """Refuses a signature that differs from the card; LiteRT would read or write beyond its buffers."""
    if signature in compiled.get_signature_list():
        inputs = compiled.get_input_tensor_details(signature)
        outputs = compiled.get_output_tensor_details(signature)
        found = {name: (detail["dtype"], tuple(detail["shape"])) for name, detail in (inputs | outputs).items()}
        expected = dict.fromkeys(_INPUTS, ("int32", input_shape)) | {_OUTPUT: ("float32", output_shape)}
        if found == expected:
            return
    raise InputError(
        f"Signature {signature} must map {' and '.join(_INPUTS)}, int32 {input_shape}, to {_OUTPUT}, float32 "
        f"{output_shape}. Received: {path}"
    )


def _release(buckets: list[_Bucket | _FreeLength]) -> None:
    with quiet_stderr():
        buckets.clear()

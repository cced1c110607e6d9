"""Running an exported .tflite file with LiteRT, without tensorflow."""

import math
import platform
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.options import CpuOptions, Options
from ai_edge_litert.tensor_buffer import TensorBuffer

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import Bundle, Card, read_bundle
from minialbert_tf.native_logs import quiet_stderr
from minialbert_tf.weight_cache import packed_weights, processor_features

_INPUTS = ("input_ids", "attention_mask")
_OUTPUT = "logits"
_GPU_LIBRARY = Path(ai_edge_litert.__file__).with_name("libLiteRtWebGpuAccelerator.so")


@dataclass(frozen=True)
class _Interface:
    """What a model's signatures take and give."""

    inputs: tuple[str, ...]
    per_token: bool
    num_labels: int

    @classmethod
    def of(cls, card: Card) -> "_Interface":
        if card.task == "token-classification":
            return cls(_INPUTS, True, len(card.labels))
        return cls((*_INPUTS, "token_type_ids"), False, len(card.labels))

    def output_shape(self, length: int) -> tuple[int, ...]:
        return (1, length, self.num_labels) if self.per_token else (1, self.num_labels)


class LiteRTRuntime:
    """Logits of sequences from a .tflite file with one signature per sequence length, or one for any length.

    Signature `length_L` takes `input_ids` and `attention_mask`, int32 (1, L), and returns `logits`, float32
    (1, L, labels); that of a text classifier takes `token_type_ids`, too, and returns (1, labels). A sequence runs in
    the shortest that holds it, padded, or at its own length where the signature leaves it free. Calls from several
    threads take turns.

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
            InputError: If the file is none of these, is damaged, or its signatures do not fit its card; or if LiteRT
                cannot run on this processor.
        """
        if threads < 1:
            raise InputError(f"threads must be at least 1. Received: {threads}")
        _check_processor()
        bundle = model if isinstance(model, Bundle) else read_bundle(model)
        card = bundle.card
        self.max_length = card.sequence_lengths[-1]
        self._lock = threading.Lock()
        with quiet_stderr(), packed_weights(card.model_sha256, card.model_bytes) as cache:
            options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_weight_cache_path=cache))
            with _loading(bundle.path):
                self._signatures = _Signatures(CompiledModel.from_file(str(bundle.path), options=options), bundle)
        # LiteRT logs when its objects die, too: they are to die in _release, at the latest when the process ends.
        self._finalizer = weakref.finalize(self, _release, self._signatures)

    def predict(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns the logits of each sequence of piece ids: float32 (length, labels), of a text classifier (labels,).

        Raises:
            InputError: If a sequence is longer than `max_length`, the runtime is closed, or a signature does not fit
                the file's card.
        """
        with self._lock:
            if not self._finalizer.alive:
                raise InputError("The runtime is closed.")
            logits = [np.empty(0)] * len(sequences)
            # Bucket by bucket: what a signature works on is still in the processor's caches for the next sequence.
            for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
                logits[index] = self._signatures.shortest(len(sequences[index])).run(sequences[index])
            return logits

    def close(self) -> None:
        """Frees the model; nothing can be predicted afterwards."""
        with self._lock:
            self._finalizer()


class _Signatures:
    """The model, and its signatures by length, each set up when it is first used.

    Until then TFLite allocates nothing for it, which for 512 tokens is 12 MB.
    """

    def __init__(self, compiled: CompiledModel, bundle: Bundle) -> None:
        """Checks the names and inputs of all signatures, and sets up the shortest, which checks its outputs."""
        self._compiled = compiled
        self._path = bundle.path
        self._lengths = bundle.card.sequence_lengths
        self._interface = _Interface.of(bundle.card)
        self._used: dict[int, _Bucket | _FreeLength] = {}
        known = compiled.get_signature_list()
        for length in self._lengths:
            expected = dict.fromkeys(self._interface.inputs, ("int32", (1, length)))
            if _name(length) not in known or _described(compiled.get_input_tensor_details(_name(length))) != expected:
                raise self._unfit(length)
        self.shortest(0)

    def shortest(self, length: int) -> "_Bucket | _FreeLength":
        """Returns the shortest signature that takes so many pieces.

        Raises:
            InputError: If there is none, or its outputs do not fit the card.
        """
        fitting = next((bucket for bucket in self._lengths if length <= bucket), None)
        if fitting is None:
            raise InputError(f"A sequence must not exceed {self._lengths[-1]} pieces. Received: {length}")
        if fitting not in self._used:
            with _loading(self._path):
                self._used[fitting] = self._set_up(fitting)
        return self._used[fitting]

    def clear(self) -> None:
        """Drops everything."""
        self._used.clear()
        del self._compiled

    def _set_up(self, length: int) -> "_Bucket | _FreeLength":
        name = _name(length)
        found = _described(self._compiled.get_output_tensor_details(name))
        if found != {_OUTPUT: ("float32", self._interface.output_shape(length))}:
            raise self._unfit(length)
        kind = _FreeLength if _is_free(self._compiled, name, length) else _Bucket
        return kind(self._compiled, length, self._interface)

    def _unfit(self, length: int) -> InputError:
        """Tells of a signature that differs from the card; LiteRT would read or write beyond its buffers."""
        return InputError(
            f"Signature {_name(length)} must map {' and '.join(self._interface.inputs)}, int32 {(1, length)}, to "
            f"{_OUTPUT}, float32 {self._interface.output_shape(length)}. Received: {self._path}"
        )


class _Bucket:
    """One signature of a fixed length with its buffers, which every run reuses."""

    def __init__(self, compiled: CompiledModel, length: int, interface: _Interface) -> None:
        self.length = length
        self._interface = interface
        self._compiled = compiled
        self._signature = _name(length)
        self._inputs = {name: compiled.create_input_buffer_by_name(self._signature, name) for name in interface.inputs}
        self._outputs = {_OUTPUT: compiled.create_output_buffer_by_name(self._signature, _OUTPUT)}
        _write(self._inputs, (), length)  # the first write sets up what LiteRT shares in the process, with its log

    def run(self, sequence: Sequence[int]) -> np.ndarray:
        """Returns the logits of a sequence that fits."""
        _write(self._inputs, sequence, self.length)
        self._compiled.run_by_name(self._signature, self._inputs, self._outputs)
        logits = _read(self._outputs[_OUTPUT], self._interface.output_shape(self.length))
        return logits[: len(sequence)] if self._interface.per_token else logits


class _FreeLength:
    """The signature of a model that takes sequences of any length up to one."""

    def __init__(self, compiled: CompiledModel, length: int, interface: _Interface) -> None:
        self.length = length
        self._interface = interface
        self._compiled = compiled
        self._signature = _name(length)
        self.run((0,))  # as in _Bucket

    def run(self, sequence: Sequence[int]) -> np.ndarray:
        """Returns the logits of a sequence that fits."""
        inputs = {}
        for name in self._interface.inputs:
            self._compiled.resize_input_tensor_by_name(self._signature, name, (1, len(sequence)))
            inputs[name] = self._compiled.create_input_buffer_by_name(self._signature, name)
        _write(inputs, sequence, len(sequence))
        # LiteRT makes output buffers for the length that the file states, and would write beyond them.
        shape = self._interface.output_shape(len(sequence))
        output = TensorBuffer.create_from_host_memory(np.zeros(shape, np.float32))
        self._compiled.run_by_name(self._signature, inputs, {_OUTPUT: output})
        return _read(output, shape)


def _check_processor() -> None:
    """Refuses where LiteRT would end the process: it loads its GPU library wherever that is (LiteRT issue 6083)."""
    old = platform.machine() == "aarch64" and "atomics" not in (processor_features() or "atomics")
    if old and _GPU_LIBRARY.exists():
        raise InputError(
            "On ARM before version 8.1, such as the Raspberry Pi 4, LiteRT's GPU library must be deleted: loading it "
            f"ends the process, and nothing here uses it. Received: {_GPU_LIBRARY}"
        )


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Says which file it is that LiteRT cannot load."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"LiteRT must be able to load the model. Received: {path} ({error})") from error


def _name(length: int) -> str:
    return f"length_{length}"


def _described(details: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns the type and the shape of each tensor."""
    return {name: (detail["dtype"], tuple(detail["shape"])) for name, detail in details.items()}


def _is_free(compiled: CompiledModel, signature: str, length: int) -> bool:
    """Tells whether the length may change, which LiteRT says only by refusing to change it."""
    try:
        compiled.resize_input_tensor_by_name(signature, _INPUTS[0], (1, length + 1))
    except RuntimeError:
        return False
    return True


def _write(inputs: dict[str, TensorBuffer], sequence: Sequence[int], length: int) -> None:
    padding = [0] * (length - len(sequence))
    values = {"input_ids": [*sequence, *padding], "attention_mask": [1] * len(sequence) + padding}
    for name, buffer in inputs.items():  # a single text has token type 0 throughout
        buffer.write(np.array([values.get(name, [0] * length)], np.int32))


def _read(output: TensorBuffer, shape: tuple[int, ...]) -> np.ndarray:
    return output.read(math.prod(shape), np.float32).reshape(shape[1:])


def _release(signatures: _Signatures) -> None:
    with quiet_stderr():
        signatures.clear()

import threading
from pathlib import Path

import numpy as np
import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle, write_bundle
from minialbert_tf.litert_runtime import LiteRTRuntime

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def path(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("runtime") / "tiny.tflite"
    write_bundle(path, **tiny_model.arguments())
    return path


def test_logits_are_those_of_the_network_without_padding(path, tiny_model):
    runtime = LiteRTRuntime(path)
    assert runtime.max_length == 32
    sequences = [[2, 3], list(range(5, 21)), list(range(5, 22)), [2, 9, 3], list(range(32)), [7]]
    outputs = runtime.predict(sequences)
    for sequence, output in zip(sequences, outputs, strict=True):
        assert output.shape == (len(sequence), 5) and output.dtype == np.float32
        assert np.abs(output - tiny_model.logits(sequence)).max() < 1e-5
        changed = [sequence[0] + 1, *sequence[1:]]
        assert np.abs(output - tiny_model.logits(changed)).max() > 1e-2  # the control
    assert runtime.predict([]) == []


def test_outputs_are_not_overwritten_by_the_next_call(path):
    runtime = LiteRTRuntime(path)
    first = runtime.predict([[2, 9, 3]])[0]
    kept = first.copy()
    runtime.predict([[2, 11, 3]])
    assert np.array_equal(first, kept)


def test_a_bundle_that_was_read_is_taken_too(path):
    sequence = [2, 9, 10, 3]
    outputs = [
        LiteRTRuntime(model, threads).predict([sequence])[0] for model, threads in ((read_bundle(path), 2), (path, 1))
    ]
    assert np.array_equal(outputs[0], outputs[1])


def test_threads_take_turns(path):
    runtime = LiteRTRuntime(path)
    sequences = [[2, 5 + i, 6 + i, 3] for i in range(40)]
    alone = runtime.predict(sequences)
    results: dict[int, list[np.ndarray]] = {}

    def work(number):
        results[number] = [runtime.predict([sequence])[0] for sequence in sequences]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for outputs in results.values():
        assert all(np.array_equal(*pair) for pair in zip(outputs, alone, strict=True))


def test_limits(path):
    with pytest.raises(InputError, match="threads must be at least 1"):
        LiteRTRuntime(path, threads=0)
    runtime = LiteRTRuntime(path)
    with pytest.raises(InputError, match=r"must not exceed 32 pieces. Received: 33"):
        runtime.predict([[1] * 33])
    runtime.close()
    runtime.close()
    with pytest.raises(InputError, match="closed"):
        runtime.predict([[2, 3]])


@pytest.mark.parametrize(
    "changes", [{"sequence_lengths": (16, 64)}, {"labels": ("O", "B-X")}, {"sequence_lengths": (16, 32, 48)}]
)
def test_a_network_that_differs_from_its_card_is_refused(tiny_model, tmp_path, changes):
    write_bundle(tmp_path / "wrong.tflite", **{**tiny_model.arguments(), **changes})
    with pytest.raises(InputError, match=r"Signature length_\d+ must map input_ids and attention_mask"):
        LiteRTRuntime(tmp_path / "wrong.tflite")


def test_a_damaged_file_never_reaches_litert(path, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        LiteRTRuntime(damaged)

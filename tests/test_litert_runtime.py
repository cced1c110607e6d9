import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minialbert_tf as ma
from minialbert_tf import litert_runtime
from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle, write_bundle
from minialbert_tf.export.flatbuffer import read_model, write_model
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


def test_a_length_is_set_up_when_it_is_first_used(tiny_model, tmp_path):
    """And is held against the card then."""
    model = read_model(tiny_model.flatbuffer)
    states = model.subgraphs[1].operators[-1].inputs[0]  # (1, 32, 8), where logits are (1, 32, 5)
    model.subgraphs[1].outputs = np.array([states], np.int32)
    model.signatureDefs[1].outputs[0].tensorIndex = states
    write_bundle(tmp_path / "wrong.tflite", **{**tiny_model.arguments(), "flatbuffer": write_model(model)})
    runtime = LiteRTRuntime(tmp_path / "wrong.tflite")
    assert np.abs(runtime.predict([[2, 9, 3]])[0] - tiny_model.logits([2, 9, 3])).max() < 1e-5
    with pytest.raises(InputError, match="Signature length_32 must map"):
        runtime.predict([[7] * 17])


def resident_after(rounds, path, close):
    """Returns the resident memory in pages after loading and running so often in one process."""
    script = """
import sys
from pathlib import Path
from minialbert_tf.litert_runtime import LiteRTRuntime
kept = []
for _ in range(int(sys.argv[2])):
    runtime = LiteRTRuntime(sys.argv[1])
    runtime.predict([[2, 9, 3], [7] * 17])
    if sys.argv[3] == "close":
        runtime.close()
    kept.append(runtime)
print(Path("/proc/self/statm").read_text().split()[1])
"""
    command = [sys.executable, "-c", script, str(path), str(rounds), "close" if close else "keep"]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_close_gives_the_memory_back(path):
    pages_each = (resident_after(120, path, close=True) - resident_after(40, path, close=True)) / 80
    kept_each = (resident_after(120, path, close=False) - resident_after(40, path, close=False)) / 80
    assert pages_each < 0.1 * kept_each
    assert kept_each > 20  # the control: what is not closed is held


def test_closing_waits_for_calls_that_are_under_way(path):
    runtime = LiteRTRuntime(path)
    outcomes = []

    def work():
        try:
            while True:
                outcomes.append(runtime.predict([[2, 9, 3]])[0].shape == (3, 5))
        except InputError as error:
            outcomes.append(str(error) == "The runtime is closed.")

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    while len(outcomes) < 100:
        time.sleep(0.001)
    runtime.close()
    for worker in workers:
        worker.join()
    assert all(outcomes)


def test_a_processor_that_the_gpu_library_would_crash_on_is_refused(path, tmp_path, monkeypatch):
    library = tmp_path / "libLiteRtWebGpuAccelerator.so"
    library.touch()
    monkeypatch.setattr(litert_runtime, "_GPU_LIBRARY", library)
    monkeypatch.setattr(litert_runtime.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(litert_runtime, "processor_features", lambda: "Features\t: fp asimd crc32 cpuid")
    with pytest.raises(InputError, match="GPU library must be deleted"):
        LiteRTRuntime(path)
    for features in ("Features\t: fp asimd atomics", ""):
        monkeypatch.setattr(litert_runtime, "processor_features", lambda features=features: features)
        assert LiteRTRuntime(path).max_length == 32
    library.unlink()
    monkeypatch.setattr(litert_runtime, "processor_features", lambda: "Features\t: fp asimd crc32 cpuid")
    assert LiteRTRuntime(path).max_length == 32


def test_a_damaged_file_never_reaches_litert(path, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        LiteRTRuntime(damaged)


@pytest.mark.parametrize("dynamic", [False, True])
def test_text_classifiers_run_too(tiny_tagger, tmp_path, dynamic):
    config = tiny_tagger.config.replace(id2label=dict(enumerate("abc")))
    model = ma.MiniAlbertForSequenceClassification(config)
    path = tmp_path / "texts.tflite"
    options = {"quantization": "float32", "sequence_lengths": (16, 32), "dynamic": dynamic}
    ma.export.export_tflite(model, path, tokenizer=tiny_tagger.tokenizer, **options)
    sequences = [[2, 9, 10, 3], list(range(5, 22)), list(range(5, 37))]
    outputs = LiteRTRuntime(path).predict(sequences)
    for sequence, output in zip(sequences, outputs, strict=True):
        assert output.shape == (3,)
        assert np.abs(output - model({"input_ids": np.array([sequence])}).numpy()[0]).max() < 1e-4
        assert np.abs(output - model({"input_ids": np.array([sequence[:-1]])}).numpy()[0]).max() > 1e-3  # the control

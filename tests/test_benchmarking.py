import json
import time
from pathlib import Path

import numpy as np
import pytest

from minialbert_tf import benchmark_process
from minialbert_tf.benchmark_plot import _comparable, save_plot
from minialbert_tf.benchmarking import Case, Measurement, format_table, measure, plan
from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle

pytestmark = pytest.mark.filterwarnings("error")
LINUX = Path("/proc/self/smaps_rollup").exists()


def measurement(**changes):
    values = {
        "file": "a/ner.tflite",
        "quantization": "int8",
        "size_mb": 12.2,
        "length": 128,
        "threads": 1,
        "p50_ms": 16.5,
        "p95_ms": 17.25,
        "tokens_per_second": 7757.6,
        "first_load_ms": 80.0,
        "later_load_ms": 30.0,
        "later_network_ms": 10.0,
        "resident_mb": 30.0,
        "anonymous_mb": 15.0,
        "tokenizer_mb": 5.0,
    }
    return Measurement(**{**values, **changes})


def test_a_plan_has_each_file_length_and_number_of_threads(tiny_tagger_file):
    cases = plan([tiny_tagger_file], None, [1, 2])
    assert [(case.length, case.threads) for case in cases] == [(16, 1), (16, 2), (32, 1), (32, 2)]
    assert plan([tiny_tagger_file], [20], [3]) == [Case(tiny_tagger_file, 20, 3)]


@pytest.mark.parametrize(
    ("lengths", "threads", "message"),
    [
        ([33], [1], r"takes at most 32 pieces. Received: a length of 33"),
        ([0], [1], r"Lengths must be different and at least 1. Received: 0"),
        ([8, 8], [1], r"Lengths must be different"),
        (None, [2, 0], r"Numbers of threads must be different and at least 1. Received: 2 0"),
    ],
)
def test_impossible_plans_are_refused(tiny_tagger_file, lengths, threads, message):
    with pytest.raises(InputError, match=message):
        plan([tiny_tagger_file], lengths, threads)


def test_a_file_stands_once_in_a_plan(tiny_tagger_file):
    with pytest.raises(InputError, match="The files must be different"):
        plan([tiny_tagger_file, tiny_tagger_file], None, [1])


def test_figures_of_a_file(tiny_tagger_file, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIALBERT_CACHE", str(tmp_path / "cache"))
    cases = [Case(tiny_tagger_file, 16, 1)]
    (found,) = measure(cases, seconds=0.01, scores={tiny_tagger_file: 0.5})
    assert found.size_mb == tiny_tagger_file.stat().st_size / 1e6
    assert (found.length, found.threads, found.f1) == (16, 1, 0.5)
    assert found.quantization == read_bundle(tiny_tagger_file).card.quantization
    assert 0 < found.p50_ms <= found.p95_ms < 1000
    assert found.tokens_per_second == pytest.approx(16 / found.p50_ms * 1000)
    assert 0 < found.later_network_ms < found.later_load_ms
    if LINUX:
        assert found.tokenizer_mb < found.anonymous_mb < 100
        assert found.resident_mb < 100  # and may be less: the kernel takes back pages of files when it likes
    assert not (tmp_path / "cache").exists()  # what this very user has packed would make the first load a later one


def test_the_first_load_packs_and_later_ones_do_not(tiny_tagger_file, monkeypatch):
    starts = []

    def process(case, cache, seconds):
        starts.append((cache, seconds))
        return {"read_seconds": 1, "load_seconds": 2 / len(starts), "call_seconds": [0.25, 0.5, 0.75],
                "tokenizer_memory": None, "memory": None}  # fmt: skip

    monkeypatch.setattr("minialbert_tf.benchmarking._measured_process", process)
    case = Case(tiny_tagger_file, 16, 1)
    first, second = measure([case, case], seconds=3, scores={})
    assert [seconds for _, seconds in starts] == [0, 3, 0, 3]
    assert starts[0][0] == starts[1][0] != starts[2][0] == starts[3][0]
    assert (first.first_load_ms, first.later_load_ms, first.later_network_ms) == (3000, 2000, 1000)
    assert (first.p50_ms, first.p95_ms, first.tokens_per_second) == (500, pytest.approx(725), 32)
    assert (second.anonymous_mb, second.f1) == (None, None)
    assert " -" in format_table([second])


def test_a_process_that_fails_is_an_error(tiny_tagger_file, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(tiny_tagger_file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"Measuring .*damaged.tflite failed with status 1: .*InputError"):
        list(measure([Case(damaged, 16, 1)], 0.1, {}))


@pytest.mark.skipif(not LINUX, reason="reads Linux's /proc")
def test_memory_in_use_counts_what_is_touched():
    before = benchmark_process.memory_in_use()
    held = np.ones(5_000_000)
    grown = benchmark_process.growth(before, benchmark_process.memory_in_use())
    assert held.nbytes * 0.9 < grown["anonymous"] < held.nbytes * 1.1
    assert held.nbytes * 0.9 < grown["resident"] < held.nbytes * 1.1
    assert benchmark_process.growth(before, None) is None


def test_calls_are_repeated_for_as_long_as_asked():
    calls = []
    seconds = benchmark_process.time_calls(lambda: calls.append(1), 0.0)
    assert len(seconds) == benchmark_process.MIN_CALLS == len(calls) - 2
    assert sum(benchmark_process.time_calls(lambda: time.sleep(0.001), 0.05)) >= 0.05


def test_the_table_has_a_heading_for_each_file():
    rows = [measurement(), measurement(length=256, p50_ms=33.3), measurement(file="b/ner.tflite", f1=0.6161)]
    lines = format_table(rows).splitlines()
    assert lines[0] == "a/ner.tflite: 12.20 MB, int8, tokenizer 5.0 MB anonymous"
    assert lines[1].split("  ")[0] == "length" and len({len(line) for line in (*lines[1:4], *lines[6:])}) == 1
    assert "33.30" in lines[3] and "7,758" in lines[2]
    assert lines[5].endswith("F1 0.6161")
    assert json.loads(json.dumps(rows[2].to_json()))["f1"] == 0.6161


@pytest.mark.parametrize(
    "rows",
    [
        [measurement()],
        [measurement(), measurement(file="b/ner.tflite", length=16, f1=0.5), measurement(threads=2, p50_ms=9)],
    ],
)
def test_a_picture_is_written(rows, tmp_path):
    pytest.importorskip("matplotlib")
    save_plot(rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_compares_like_with_like():
    rows = [measurement(length=length, threads=threads) for length in (32, 128, 512) for threads in (2, 1)]
    rows += [measurement(file="b", length=length) for length in (64, 128)] + [measurement(file="c", length=100)]
    compared = [(row.file, row.length, row.threads) for row in _comparable(rows)]
    assert compared == [("a/ner.tflite", 128, 1), ("b", 128, 1), ("c", 100, 1)]

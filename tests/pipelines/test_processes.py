import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from corpus_samples import sentences

from minialbert_tf.errors import InputError, WorkerError
from minialbert_tf.pipelines import processes
from minialbert_tf.pipelines.processes import Block, Model, tag_blocks
from minialbert_tf.pipelines.records import Line

ROOT = Path(__file__).parents[2]


def blocks(count: int, taken: list | None = None):
    for number in range(count):
        if taken is not None:
            taken.append(number)
        lines = [Line(f"f:{number * 9 + i}", text.encode(), "text") for i, text in enumerate(sentences(number % 9 + 1))]
        yield Block(lines, number)


def test_any_number_of_processes_gives_the_same_in_order(tiny_tagger_file):
    model = Model(str(tiny_tagger_file))
    alone, several = (list(tag_blocks(blocks(60), model, workers)) for workers in (1, 3))
    assert [block.position for block, _ in several] == list(range(60))
    assert [result for _, result in several] == [result for _, result in alone]
    assert sum(result.counts.entities for _, result in alone) > 60
    assert multiprocessing.active_children() == []


def test_blocks_are_read_no_further_ahead_than_needed(tiny_tagger_file):
    taken: list[int] = []
    results = tag_blocks(blocks(1000, taken), Model(str(tiny_tagger_file)), 2)
    next(results)
    assert len(taken) <= 2 * processes._WAITING_PER_WORKER
    results.close()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_an_error_and_no_hang(tiny_tagger_file):
    results = tag_blocks(blocks(2000), Model(str(tiny_tagger_file)), 2)
    next(results)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(WorkerError, match=r"^Every worker process must live.*its death at f:\d+ or soon after$"):
        list(results)
    assert multiprocessing.active_children() == []


def test_a_bad_model_is_named(tmp_path):
    (tmp_path / "ner.tflite").write_text("no model")
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"must be a \.tflite file"):
            next(tag_blocks(blocks(3), Model(str(tmp_path / "ner.tflite")), workers))
    with pytest.raises(InputError, match=r"workers must be at least 1\. Received: 0"):
        processes.check_workers(0)


def test_workers_import_nothing_heavy(tiny_tagger_file):
    code = (
        "import sys, minialbert_tf.pipelines.corpus; from minialbert_tf.pipelines import processes as p;"
        f"p._model = p.Model({str(tiny_tagger_file)!r}); p._tag([], True);"
        "print({'tensorflow', 'keras', 'transformers', 'apache_beam', 'huggingface_hub'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert result.stdout == "set()\n"


def test_default_workers(monkeypatch):
    assert 1 <= processes.available_cores() <= os.cpu_count()
    monkeypatch.setattr(processes, "available_cores", lambda: 8)
    assert Model("builtin").default_workers() == 8 and Model("x.tflite", 3).default_workers() == 2
    assert Model("x.tflite", 99).default_workers() == 1 and Model("checkpoint").default_workers() == 1

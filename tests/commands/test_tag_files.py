"""`minialbert tag` over whole files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_checks import assert_refused, tree

from minialbert_tf.pipelines import processes, sources

ROOT = Path(__file__).parents[2]
TEXTS = [f"Aspirin and naloxone caused asthma α {number}.\u2028" for number in range(300)]


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_a_file_by_processes_prints_what_one_process_does(tiny_tagger_file, folder, run):
    (folder / "notes.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    command = ("tag", "--model", tiny_tagger_file, "--file", "notes.txt")
    alone = run(*command)
    assert run(*command, "--workers", "2") == alone
    assert alone[0] == 0 and alone[1].count("\n") == len(TEXTS)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-m", "minialbert_tf.cli", *map(str, command)]
    for workers in ("1", "2"):
        result = subprocess.run([*program, "--workers", workers], env=environment, capture_output=True, check=True)
        assert result.stdout.isascii() and list(map(json.loads, result.stdout.split(b"\n")[:-1])) == list(
            map(json.loads, alone[1].split("\n")[:-1])
        )


def test_only_large_files_are_worth_processes(tiny_tagger_file, folder, run, monkeypatch):
    (folder / "notes.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    monkeypatch.setattr(processes, "available_cores", lambda: 2)
    started = []
    spawn = processes._processes
    monkeypatch.setattr(
        processes, "_processes", lambda workers, model: started.append(workers) or spawn(workers, model)
    )
    small = run("tag", "--model", tiny_tagger_file, "--file", "notes.txt")
    assert started == []
    monkeypatch.setattr(sources, "_SMALL_BYTES", 10)
    assert run("tag", "--model", tiny_tagger_file, "--file", "notes.txt") == small
    assert started == [2]
    assert (
        run("tag", "--model", tiny_tagger_file, "--file", "notes.txt", "--color", "always")[0] == 0
    )  # in colour: alone
    assert started == [2]


def test_stray_bytes_stop_a_file_by_processes_as_well(tiny_tagger_file, folder, run):
    (folder / "notes.txt").write_bytes(b"one\ntwo \xff\n")
    command = ("tag", "--model", tiny_tagger_file, "--file", "notes.txt", "--workers", "2")
    assert_refused(run(*command), "tag", "notes.txt:2: texts must be UTF-8")


def test_a_corpus(tiny_tagger_file, folder, run):
    (folder / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    (folder / "b.jsonl").write_text('{"text": "asthma", "id": "mine"}\n{"text": 5}\n')
    command = ("tag", "--model", tiny_tagger_file, "--input", "*.txt", "b.jsonl", "--output", "out.jsonl")
    code, out, err = run(*command, "--json")
    assert code == 0 and "resuming" not in err
    sums = json.loads(out)
    output = read_jsonl(folder / "out.jsonl")
    assert [line["id"] for line in output] == [*(f"a.txt:{number}" for number in range(1, 301)), "mine"]
    assert [line["text"] for line in output] == [*TEXTS, "asthma"]
    assert sums["records"] == 301 and sums["errors"] == 1 and sums["output"] == "out.jsonl"
    assert sums["entities"] == sum(len(line["entities"]) for line in output) > 0
    assert sums["records_per_second"] > 0 and sums["tokens_per_second"] > sums["records_per_second"]
    (error,) = read_jsonl(folder / sums["errors_output"])
    assert error == {"id": "b.jsonl:2", "source": "b.jsonl:2", "error": "A text must be a string. Received: int"}
    single = json.loads(run("tag", "--model", tiny_tagger_file, TEXTS[0])[1])
    assert single["entities"] == output[0]["entities"]

    code, out, err = run(*command, "--force", "--workers", "2")
    assert (code, out) == (0, "")
    assert "wrote out.jsonl: 301 records" in err and "1 errors in out.errors.jsonl" in err and "records/s" in err
    assert read_jsonl(folder / "out.jsonl") == output


@pytest.mark.parametrize("model", ["checkpoint", "saved model"])
def test_a_corpus_by_tensorflow(model, tiny_tagger, checkpoint, folder, run):
    (folder / "a.txt").write_text("asthma\n\naspirin")
    path = checkpoint
    if model == "saved model":
        pytest.importorskip("tensorflow_text")
        from minialbert_tf.export import export_saved_model

        path = folder / "serving"
        export_saved_model(tiny_tagger, path)
    assert run("tag", "--model", path, "--input", "a.txt", "--output", "out.jsonl")[0] == 0
    output = read_jsonl(folder / "out.jsonl")
    assert [line["text"] for line in output] == ["asthma", "", "aspirin"]
    single = json.loads(run("tag", "--model", path, "asthma")[1])
    assert [entity["label"] for entity in single["entities"]] == [entity["label"] for entity in output[0]["entities"]]

    pytest.importorskip("apache_beam")
    command = ("tag", "--model", path, "--input", "a.txt", "--runner", "DirectRunner", "--output", "new/beam.jsonl")
    assert run(*command, "--", "--direct_num_workers=1")[0] == 0
    (beam_output,) = (folder / "new").glob("beam-*.jsonl")
    assert sorted(line["text"] for line in read_jsonl(beam_output)) == ["", "aspirin", "asthma"]
    for line in read_jsonl(beam_output):
        (expected,) = (other for other in output if other["id"] == line["id"])
        assert [entity["text"] for entity in line["entities"]] == [entity["text"] for entity in expected["entities"]]


def test_bad_arguments(tiny_tagger_file, folder, run):
    (folder / "a.txt").write_text("asthma")
    (folder / "old.jsonl").write_text("old")
    common = ("tag", "--model", tiny_tagger_file)
    corpus = (*common, "--input", "a.txt", "--output")
    before = tree(folder)
    for arguments, message in (
        ((*common, "--input", "a.txt"), "--input needs --output"),
        ((*common, "--output", "out.jsonl", "x"), "--output must go with --input"),
        ((*common, "--runner", "DirectRunner", "x"), "--runner must go with --input"),
        ((*common, "--workers", "2", "x"), "--workers must go with --file or --input"),
        ((*common, "--workers", "0", "--file", "a.txt"), "workers must be at least 1. Received: 0"),
        ((*common, "--workers", "2", "--file", "none.txt"), "none.txt"),
        ((*corpus, "out.jsonl", "--file", "a.txt"), "not from several"),
        ((*corpus, "out.jsonl", "--", "x"), "not from several"),
        ((*corpus, "out.jsonl", "--workers", "0"), "workers must be at least 1. Received: 0"),
        ((*corpus, "out.jsonl", "--format", "xml"), "format must be one of auto, text, jsonl. Received: xml"),
        ((*corpus, "old.jsonl"), "use force (--force) to replace it. Received: old.jsonl"),
        ((*common, "--input", "none*.txt", "--output", "out.jsonl"), "Received: none*.txt"),
    ):
        assert_refused(run(*arguments), "tag", message)
        assert tree(folder) == before


def test_a_bad_model_leaves_nothing(folder, run):
    (folder / "a.txt").write_text("asthma")
    (folder / "no.tflite").write_text("none")
    for workers in ("1", "2"):
        command = ("tag", "--model", "no.tflite", "--input", "a.txt", "--output", "out.jsonl", "--workers", workers)
        assert_refused(run(*command), "tag", "must be a .tflite file. Received: no.tflite")
        assert {path.name for path in folder.iterdir()} == {"a.txt", "no.tflite"}

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_checks import assert_refused, tree
from corpus_samples import HOSTILE, sentences

from benchmarks.corpus import family
from minialbert_tf.cli import main
from minialbert_tf.errors import InputError, WorkerError
from minialbert_tf.pipelines import tag
from minialbert_tf.pipelines.corpus import Corpus, tag_corpus
from minialbert_tf.pipelines.processes import Model
from minialbert_tf.pipelines.sources import read_blocks

pytest.importorskip("apache_beam")

from minialbert_tf.pipelines import beam_run
from minialbert_tf.pipelines.beam import Chunk, TaggerHandler, plan_chunks, read_chunk
from minialbert_tf.pipelines.beam_run import tag_by_beam

ROOT = Path(__file__).parents[2]
PATTERNS = ("*/x.txt*", "hostile.jsonl")
ALONE = ("--direct_num_workers=1",)


@pytest.fixture
def model(tiny_tagger_file):
    return Model(str(tiny_tagger_file))


def lines_of(pattern: str) -> list[str]:
    return sorted(line for path in Path().glob(pattern) for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize("options", [ALONE, ("--runner=DirectRunner", "--direct_num_workers=2")])
def test_lines_are_those_of_processes(options, corpus_folder, model):
    corpus = Corpus(PATTERNS, model)
    expected = tag_corpus(corpus, "plain.jsonl", workers=1)
    summary = tag_by_beam(corpus, "beam.jsonl", options)
    assert lines_of("beam-*.jsonl") == lines_of("plain.jsonl") != []
    assert lines_of("beam.errors-*.jsonl") == lines_of("plain.errors.jsonl") != []
    assert summary.counts == expected.counts and summary.counts.records == 607
    assert len(list(Path().glob("beam-*-of-00002.jsonl"))) == (2 if "--direct_num_workers=2" in options else 0)


def test_a_run_that_was_killed_leaves_nothing_and_is_begun_anew(corpus_folder, model, monkeypatch):
    corpus = Corpus(PATTERNS, model)
    with monkeypatch.context() as patch:
        patch.setattr(beam_run, "write_lines", None)
        with pytest.raises(TypeError):
            tag_by_beam(corpus, "beam.jsonl", ALONE)
    before = tree(corpus_folder)
    tag_by_beam(corpus, "beam.jsonl", ALONE)
    assert len(lines_of("beam-*.jsonl")) == 607 and before.items() <= tree(corpus_folder).items()


def test_outputs_of_any_number_of_files_are_replaced_only_by_force(corpus_folder, model):
    for name in ("beam-00000-of-00009.jsonl", "beam.errors-00000-of-00001.jsonl"):
        (corpus_folder / name).write_text("old")
        with pytest.raises(InputError, match=rf"use force \(--force\) to replace it\. Received: .*{name}"):
            tag_by_beam(Corpus(["a/x.txt"], model), "beam.jsonl", ALONE)
        assert (corpus_folder / name).read_text() == "old"
        tag_by_beam(Corpus(["a/x.txt"], model), "beam.jsonl", ALONE, force=True)
        assert len(lines_of("beam-*.jsonl")) == 300 and lines_of("beam.errors-*.jsonl") == []
        for path in corpus_folder.glob("beam*.jsonl"):
            path.unlink()


def test_force_keeps_old_outputs_until_there_are_new_ones(corpus_folder, model, monkeypatch):
    corpus = Corpus(["a/x.txt"], model)
    for name in ("beam-00000-of-00001.jsonl", "beam-00000-of-00009.jsonl", "beam.errors-00003-of-00009.jsonl"):
        (corpus_folder / name).write_text("old")
    before = tree(corpus_folder)
    with monkeypatch.context() as patch:
        patch.setattr(TaggerHandler, "load_model", None)
        with pytest.raises(WorkerError):
            tag_by_beam(corpus, "beam.jsonl", ALONE, force=True)
    assert before.items() <= tree(corpus_folder).items()
    tag_by_beam(corpus, "beam.jsonl", ALONE, force=True)
    assert sorted(path.name for path in corpus_folder.glob("beam*.jsonl")) == [
        "beam-00000-of-00001.jsonl",
        "beam.errors-00000-of-00001.jsonl",
    ]
    assert len(lines_of("beam-*.jsonl")) == 300


def has_opened(pid, path):
    try:
        return str(path) in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has ended
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_a_worker_that_is_killed_ends_the_run_with_one_error(corpus_folder, model):
    (corpus_folder / "long.txt").write_text("\n".join(sentences(50_000)))
    words = ["--model", model.name, "--input", "long.txt", "--output", "beam.jsonl", "--direct_num_workers=2"]
    with subprocess.Popen(
        [sys.executable, "-m", "minialbert_tf.pipelines.tag", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            while not (workers := [pid for pid in family(run.pid)[1:] if has_opened(pid, model.name)]):
                assert run.poll() is None
                time.sleep(0.1)
            os.kill(workers[-1], signal.SIGKILL)
            errors = run.communicate(timeout=60)[1]
        finally:
            run.kill()
    assert run.returncode == 2
    assert "The pipeline must run to its end. Received: " in errors.splitlines()[-1]
    assert lines_of("beam-*.jsonl") == []


@pytest.mark.parametrize("compressed", [False, True])
def test_chunks_cover_a_file_once(compressed, tmp_path):
    path = tmp_path / "texts.jsonl"
    content = b"\n".join([*HOSTILE, *(json.dumps({"text": text}).encode() for text in sentences(2000)), *HOSTILE])
    path.write_bytes(gzip.compress(content) if compressed else content)
    chunks = list(plan_chunks(str(path)))
    lines = [line for chunk in chunks for line in read_chunk(chunk)]
    assert lines == [line for block in read_blocks([path]) for line in block.lines]
    assert len(lines) == 2000 + 2 * len(HOSTILE)
    assert len(chunks) == 1 if compressed else len(chunks) > 15
    (tmp_path / "empty.txt").write_bytes(b"")
    assert list(plan_chunks(str(tmp_path / "empty.txt"))) == []


def test_the_handler_can_be_sent_and_takes_an_empty_batch(model):
    import pickle

    handler = pickle.loads(pickle.dumps(TaggerHandler(model)))
    loaded = handler.load_model()
    assert list(handler.run_inference([], loaded)) == []
    lines = list(read_chunk(Chunk(__file__, "text", lines=3)))
    assert [outcome.record.id for outcome in handler.run_inference(lines, loaded)] == [
        f"{__file__}:{n}" for n in (1, 2, 3)
    ]
    assert handler.get_num_bytes(lines) == sum(len(line.content) for line in lines)
    loaded.tagger.close()


def test_a_damaged_file_fails_the_run_when_all_else_is_done(corpus_folder, model, capsys):
    path = corpus_folder / "b" / "x.txt.gz"
    path.write_bytes(path.read_bytes()[:-60])
    arguments = ["--model", model.name, "--input", "*/x.txt*", "--output", "beam.jsonl", "--json", *ALONE]
    assert tag.main(arguments) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["unreadable"] == 1
    assert "1 damaged, see " in captured.err and "beam.errors-*-of-*.jsonl" in captured.err.splitlines()[-1]
    assert 300 < len(lines_of("beam-*.jsonl")) < 600 and len(lines_of("beam.errors-*.jsonl")) == 1


def test_both_programs(corpus_folder, model, capsys):
    own = ["--model", model.name, "--input", "a/x.txt", "--force", "--json", "--output"]
    assert tag.main([*own, "one.jsonl", *ALONE]) == 0
    assert main(["tag", "--runner", "DirectRunner", *own, "two.jsonl", "--", *ALONE]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["records"] == second["records"] == 300 and first["records_per_second"] > 0
    assert lines_of("one-*.jsonl") == lines_of("two-*.jsonl") != []


def test_bad_input(corpus_folder, model, capsys):
    def run(*arguments):
        code = main(["tag", *map(str, arguments)])
        return code, *capsys.readouterr()

    common = ("--runner", "DirectRunner", "--output", "out.jsonl", "--input")
    for arguments, message in (
        ((*common, "none.txt"), "Received: none.txt"),
        ((*common, "nowhere://x/*.txt"), "nowhere"),
        ((*common, "a/x.txt", "--model", "none.tflite"), "must be a .tflite file. Received: none.tflite"),
        ((*common, "a/x.txt", "--restart"), "--restart must go without --runner"),
        ((*common, "a/x.txt", "--workers", "2"), "--workers must go without --runner"),
        ((*common, "a/x.txt", "--format", "xml"), "format must be one of auto, text, jsonl. Received: xml"),
        (("--runner", "Unheard", *common[2:], "a/x.txt"), "Unheard"),
    ):
        before = tree(corpus_folder)
        assert_refused(run(*arguments), "tag", message)
        assert tree(corpus_folder) == before


def test_without_beam(corpus_folder, tiny_tagger_file):
    code = (
        "import sys; sys.modules['apache_beam'] = None; from minialbert_tf.cli import main; "
        f"common = ['tag', '--model', {str(tiny_tagger_file)!r}, '--input', 'a/x.txt', '--output', 'out.jsonl'];"
        "assert main(common) == 0; sys.exit(main([*common, '--force', '--runner', 'DirectRunner']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "minialbert tag: A runner needs Apache Beam: pip install 'minialbert-tf[beam]'." in result.stderr


def test_a_pipeline_that_fails_is_one_error(corpus_folder, model, monkeypatch):
    def broken(self):
        raise RuntimeError("cannot\nload")

    monkeypatch.setattr(TaggerHandler, "load_model", broken)
    with pytest.raises(WorkerError, match=r"^The pipeline must run to its end\. Received: .*load"):
        tag_by_beam(Corpus(["a/x.txt"], model), "beam.jsonl", ALONE)
    assert lines_of("beam-*.jsonl") == []

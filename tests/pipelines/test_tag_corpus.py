import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_checks import tree
from corpus_samples import HOSTILE, TAGGED, read_jsonl, sentences

from minialbert_tf.errors import DataError, InputError, WorkerError
from minialbert_tf.pipelines import corpus as corpus_module
from minialbert_tf.pipelines.corpus import Corpus, tag_corpus
from minialbert_tf.pipelines.processes import Model
from minialbert_tf.pipelines.sources import BLOCK_LINES
from minialbert_tf.tagger import Tagger
from minialbert_tf.working_folder import locked

ROOT = Path(__file__).parents[2]
PATTERNS = ("*/x.txt*", "a/x.txt", "hostile.jsonl")
# A run that sends itself a signal when ten blocks are done, after saying which processes it has started.
RUN = """
import os, signal, sys
from pathlib import Path
from minialbert_tf.pipelines import corpus
from minialbert_tf.pipelines.processes import Model

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs deaf to it
tag_blocks = corpus.tag_blocks

def ending(*arguments):
    for number, result in enumerate(tag_blocks(*arguments)):
        if number == 10:
            print(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(), flush=True)
            os.kill(os.getpid(), int(sys.argv[2]))
        yield result

corpus.tag_blocks = ending
corpus.tag_corpus(corpus.Corpus(["texts.txt"], Model(sys.argv[1])), "killed.jsonl", workers=2, save_seconds=0)
"""


@pytest.fixture
def model(tiny_tagger_file):
    return Model(str(tiny_tagger_file))


def test_every_record_once_in_order_and_as_single_texts(corpus_folder, model):
    summary = tag_corpus(Corpus(PATTERNS, model), "out.jsonl", workers=2)
    output, errors = read_jsonl(corpus_folder / "out.jsonl"), read_jsonl(corpus_folder / "out.errors.jsonl")
    expected = [f"{name}:{line}" for name in ("a/x.txt", "b/x.txt.gz") for line in range(1, 301)]
    assert [line["id"] for line in output[:600]] == expected
    assert [line["id"] for line in output[600:]] == [
        {2: "a-1", 3: "a-1", 4: 7}.get(line, f"hostile.jsonl:{line}") for line in TAGGED
    ]
    assert [error["source"] for error in errors] == [
        f"hostile.jsonl:{line}" for line in range(1, len(HOSTILE) + 1) if line not in TAGGED
    ]
    assert [line["text"] for line in output[:300]] == [line["text"] for line in output[300:600]] == sentences(300)
    with Tagger.from_tflite(model.name) as tagger:
        for line in output[::7]:
            assert line["entities"] == [entity.to_json() for entity in tagger(line["text"])]
        tokens = sum(len(tagger.tokenizer.encode(line["text"]).ids) for line in output)
    found = sum(len(line["entities"]) for line in output)
    assert (summary.counts.records, summary.counts.errors, summary.counts.entities) == (607, 12, found)
    assert summary.counts.tokens == tokens and summary.counts.unreadable == 0
    assert {path.name for path in corpus_folder.iterdir()} == {
        *("a", "b", "hostile.jsonl", "out.jsonl", "out.errors.jsonl")
    }


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def lines_done(folder: Path) -> int:
    try:
        return json.loads((folder / "killed.jsonl.partial" / "state.json").read_text())["lines"]
    except OSError:
        return 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_ended_goes_on(ending, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(sentences(6_000)))
    whole = tag_corpus(Corpus(["texts.txt"], model), "whole.jsonl", workers=1)
    command = [sys.executable, "-c", RUN, model.name, str(int(ending))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
    family = list(map(int, process.stdout.split()))
    wait_until(lambda: not any(map(alive, family)))
    assert len(family) >= 2 and process.returncode != 0
    assert lines_done(tmp_path) == 10 * BLOCK_LINES and not (tmp_path / "killed.jsonl").exists()

    summary = tag_corpus(Corpus(["texts.txt"], model), "killed.jsonl", workers=2)
    assert summary.counts == whole.counts and 0 < summary.new.records < 6_000
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "killed.jsonl.partial").exists()


class Stop(Exception):
    pass


def stop_after(blocks: int, monkeypatch) -> None:
    """Makes the next run fail after some blocks."""
    tag_blocks = corpus_module.tag_blocks

    def stopping(*arguments):
        for number, result in enumerate(tag_blocks(*arguments)):
            if number == blocks:
                raise Stop
            yield result

    monkeypatch.setattr(corpus_module, "tag_blocks", stopping)


def test_what_a_kill_left_half_written_is_dropped(corpus_folder, model, monkeypatch, capsys):
    corpus = Corpus(PATTERNS, model)
    tag_corpus(corpus, "whole.jsonl", workers=1)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_after(2, patch)
        tag_corpus(corpus, "out.jsonl", workers=1)
    for name in ("output.jsonl", "errors.jsonl"):
        with (corpus_folder / "out.jsonl.partial" / name).open("ab") as file:
            file.write(b'{"half": ')
    tag_corpus(corpus, "out.jsonl", workers=2)
    assert "resuming after 256 records" in capsys.readouterr().err
    for name in ("{}.jsonl", "{}.errors.jsonl"):
        expected = (corpus_folder / name.format("whole")).read_bytes()
        assert (corpus_folder / name.format("out")).read_bytes() == expected


def test_a_kill_between_the_two_renames(corpus_folder, model, monkeypatch):
    corpus = Corpus(PATTERNS, model)
    whole = tag_corpus(corpus, "whole.jsonl", workers=1)

    def stop(source, target):
        if target.name == "out.jsonl":
            raise Stop
        source.replace(target)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(corpus_module, "_move", stop)
        tag_corpus(corpus, "out.jsonl", workers=1)
    assert (corpus_folder / "out.errors.jsonl").exists() and not (corpus_folder / "out.jsonl").exists()
    summary = tag_corpus(corpus, "out.jsonl", workers=1)
    assert summary.counts == whole.counts and summary.new.records == 0
    assert (corpus_folder / "out.jsonl").read_bytes() == (corpus_folder / "whole.jsonl").read_bytes()
    assert (corpus_folder / "out.errors.jsonl").read_bytes() == (corpus_folder / "whole.errors.jsonl").read_bytes()


def test_another_run_is_not_gone_on_with(corpus_folder, model, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_after(1, patch)
        tag_corpus(Corpus(PATTERNS, model), "out.jsonl", workers=1)
    before = tree(corpus_folder)
    with pytest.raises(InputError, match=r"same settings.*--restart.*format: 'auto' then, 'text' now"):
        tag_corpus(Corpus(PATTERNS, model, "text"), "out.jsonl")
    os.utime(corpus_folder / "a" / "x.txt", ns=(1, 1))
    with pytest.raises(InputError, match=r"files\.a/x\.txt"):
        tag_corpus(Corpus(PATTERNS, model), "out.jsonl")
    with locked(corpus_folder / "out.jsonl.partial"), pytest.raises(InputError, match="Only one run at a time"):
        tag_corpus(Corpus(PATTERNS, model), "out.jsonl", restart=True)
    assert tree(corpus_folder) == before
    assert tag_corpus(Corpus(PATTERNS, model), "out.jsonl", workers=1, restart=True).new.records == 607


def test_outputs_are_replaced_only_by_force(corpus_folder, model):
    corpus = Corpus(["a/x.txt"], model)
    for name in ("out.jsonl", "out.errors.jsonl"):
        (corpus_folder / name).write_text("mine")
        with pytest.raises(InputError, match=f"use force .--force. to replace it. Received: {name}"):
            tag_corpus(corpus, "out.jsonl")
        assert (corpus_folder / name).read_text() == "mine"
        tag_corpus(corpus, "out.jsonl", force=True)
        (corpus_folder / "out.jsonl").unlink()
        (corpus_folder / "out.errors.jsonl").unlink()


def test_a_dead_worker_keeps_what_is_done(corpus_folder, model, monkeypatch):
    def dying(*arguments):
        yield from ()
        raise WorkerError("dead")

    with monkeypatch.context() as patch, pytest.raises(WorkerError):
        patch.setattr(corpus_module, "tag_blocks", dying)
        tag_corpus(Corpus(PATTERNS, model), "out.jsonl", workers=2)
    assert tag_corpus(Corpus(PATTERNS, model), "out.jsonl", workers=1).counts.records == 607


def test_a_damaged_file_fails_the_run_when_all_else_is_done(corpus_folder, model):
    path = corpus_folder / "b" / "x.txt.gz"
    path.write_bytes(path.read_bytes()[:-60])
    summary = tag_corpus(Corpus(PATTERNS, model), "out.jsonl", workers=1)
    assert summary.counts.unreadable == 1 and summary.counts.records < 607
    assert len(read_jsonl(corpus_folder / "out.jsonl")) == summary.counts.records
    (lost,) = (error for error in read_jsonl(corpus_folder / "out.errors.jsonl") if "b/x.txt.gz" in error["source"])
    assert "from this line on it is lost" in lost["error"]
    with pytest.raises(DataError, match=r"1 damaged, see out\.errors\.jsonl"):
        summary.print(as_json=False)

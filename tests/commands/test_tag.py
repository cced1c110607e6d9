import io
import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from command_checks import assert_refused

from minialbert_tf.cli import main

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "minialbert_tf.cli"]
TEXTS = ["Aspirin and naloxone caused asthma.", "", "Selegiline-induced α-hypotension 😀"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Lines:
    """A standard input of given lines."""

    def __init__(self, lines, typed=False):
        self.buffer = self
        self._lines = lines
        self._typed = typed

    def isatty(self):
        return self._typed

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __iter__(self):
        return iter(self._lines)


def texts_of(out):
    return [json.loads(line)["text"] for line in out.splitlines()]


def test_tag_texts_of_the_command_line(tiny_tagger_file, run):
    code, out, err = run("tag", "--model", tiny_tagger_file, *TEXTS)
    assert (code, err) == (0, "")
    assert texts_of(out) == TEXTS
    assert "α" in out and "😀" in out
    entities = [json.loads(line)["entities"] for line in out.splitlines()]
    assert sum(map(len, entities)) > 0
    for text, found in zip(TEXTS, entities, strict=True):
        for entity in found:
            assert text[entity["start"] : entity["end"]] == entity["text"] and entity["label"] == "X"
            assert 0 < entity["score"] <= 1


def test_tag_files_and_standard_input_alike(tiny_tagger_file, folder, run, monkeypatch):
    expected = run("tag", "--model", tiny_tagger_file, *TEXTS)
    content = "\ufeff" + "\r\n".join(TEXTS)
    (folder / "notes.txt").write_text(content, encoding="utf-8", newline="")
    assert run("tag", "--model", tiny_tagger_file, "--file", "notes.txt") == expected
    monkeypatch.setattr(sys, "stdin", Lines(content.encode().splitlines(keepends=True)))
    assert run("tag", "--model", tiny_tagger_file) == expected
    assert run("tag", "--model", tiny_tagger_file, "--threads", "2") == expected


def test_tag_by_a_checkpoint(checkpoint, run):
    code, out, _ = run("tag", "--model", checkpoint, *TEXTS)
    assert code == 0 and texts_of(out) == TEXTS


def test_tag_in_colour(tiny_tagger_file, run):
    code, out, _ = run("tag", "--model", tiny_tagger_file, "--color", "always", TEXTS[0])
    assert code == 0 and "\x1b[1mX" in out and "Aspirin" in out
    plain = run("tag", "--model", tiny_tagger_file, "--color", "always", "--json", TEXTS[0])[1]
    assert texts_of(plain) == [TEXTS[0]]


@pytest.mark.parametrize(("no_color", "marked"), [("", "\x1b[1mX"), ("1", " X]")])
def test_tag_on_a_terminal(tiny_tagger_file, no_color, marked, monkeypatch):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["tag", "--model", str(tiny_tagger_file), TEXTS[0]]) == 0
    assert marked in sys.stdout.getvalue()


@pytest.mark.parametrize("from_file", [True, False])
def test_texts_that_are_not_utf8_are_named(from_file, tiny_tagger_file, folder, run, monkeypatch):
    (folder / "notes.txt").write_bytes(b"one\ntwo \xff\n")
    monkeypatch.setattr(sys, "stdin", Lines([b"one\n", b"two \xff\n"]))
    arguments = ("--file", "notes.txt") if from_file else ()
    name = "notes.txt" if from_file else "standard input"
    assert_refused(run("tag", "--model", tiny_tagger_file, *arguments), "tag", f"{name}:2: texts must be UTF-8")


def test_a_typed_line_is_answered_before_the_next(tiny_tagger_file, capsys, monkeypatch):
    answers = []

    def lines():
        for text in TEXTS:
            answers.append(len(capsys.readouterr().out.splitlines()))
            yield f"{text}\n".encode()

    monkeypatch.setattr(sys, "stdin", Lines(lines(), typed=True))
    assert main(["tag", "--model", str(tiny_tagger_file)]) == 0
    assert answers == [0, 1, 1]


def test_stray_bytes_in_arguments(tiny_tagger_file):
    text = b"asthma \xff\xc3 \xce\xb1"
    for encoding, expected in (("utf-8", "α"), ("ascii", "\\u03b1")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        command = [*PROGRAM, "tag", "--model", tiny_tagger_file, text, "α"]
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        out = result.stdout.decode()
        assert result.stderr == b""
        assert texts_of(out) == [os.fsdecode(text), "α"]
        assert expected in out.splitlines()[1]


def test_highlights_on_a_terminal_that_lacks_characters(tiny_tagger_file):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*PROGRAM, "tag", "--model", tiny_tagger_file, "--color", "always", "zzz α"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert b"\\u03b1" in result.stdout and result.stderr == b""


def test_an_interactive_line_is_answered_at_once(tiny_tagger_file):
    ours, theirs = pty.openpty()
    command = [*PROGRAM, "tag", "--model", tiny_tagger_file]
    with subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            for text in TEXTS:
                os.write(ours, f"{text}\n".encode())
                assert select.select([process.stdout], [], [], 60)[0], "no answer"
                assert json.loads(process.stdout.readline())["text"] == text
            os.write(ours, b"\x04")  # end of input
            assert process.wait(60) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


def test_a_reader_that_has_seen_enough(tiny_tagger_file, tmp_path):
    (tmp_path / "notes.txt").write_text(f"{TEXTS[0]}\n" * 3000)
    command = [*PROGRAM, "tag", "--model", tiny_tagger_file, "--file", tmp_path / "notes.txt"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""

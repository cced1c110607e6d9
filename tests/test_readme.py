"""The README's snippets run, and its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from minialbert_tf.cli import _parser

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"<!-- test: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))
COMMANDS = re.findall(r"^(minialbert .*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_python_snippet_is_tested():
    assert README.count("```python") == len(SNIPPETS)


def test_fine_tuning(folder, capsys):
    exec(SNIPPETS["finetune"], {})
    assert "of the parameters are trainable" in capsys.readouterr().out
    assert {path.name for path in (folder / "my-model").iterdir()} == {"config.json", "model.safetensors"}


def test_tflite(folder, capsys, tiny_tagger_file):
    (folder / "ner.tflite").write_bytes(tiny_tagger_file.read_bytes())
    exec(SNIPPETS["tflite"], {})
    assert capsys.readouterr().out  # random weights: some word is an entity


def test_serving(folder, capsys, tiny_tagger):
    pytest.importorskip("tensorflow_text")
    from minialbert_tf.export import export_saved_model

    export_saved_model(tiny_tagger, "serving/ner")
    exec(SNIPPETS["serving"], {})
    assert "Entity(" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_accepted(command):
    _parser().parse_args(shlex.split(command)[1:])

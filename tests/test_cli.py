"""The program as a whole; tests/commands has what its commands do."""

import subprocess
import sys
from pathlib import Path

import pytest

from minialbert_tf.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", [*COMMANDS, "export tflite"])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "example" in out and f"  minialbert {command}" in out


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(name in out.split() and summary.split()[0] in out for name, summary in COMMANDS.items())


@pytest.mark.parametrize("arguments", [[], ["fly"], ["tag", "--model"], ["finetune", "--epochs", "many"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: minialbert")


def test_tagging_with_a_file_imports_nothing_heavy(tiny_tagger_file):
    code = (
        "import sys; from minialbert_tf.cli import main; main(sys.argv[1:]); "
        "print({'tensorflow', 'keras', 'tf_keras', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "tag", "--model", tiny_tagger_file, "asthma"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert result.stdout.splitlines()[1] == "set()"


def test_importing_the_package_is_quick():
    code = (
        "import sys, time; started = time.perf_counter(); import minialbert_tf; "
        "print(time.perf_counter() - started, len({'numpy', 'tokenizers', 'tensorflow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split() for _ in range(5)]
    assert min(float(seconds) for seconds, _ in runs) < 0.2
    assert {heavy for _, heavy in runs} == {b"0"}

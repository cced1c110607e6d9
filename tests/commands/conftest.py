import pytest
import tensorflow as tf
from tiny_runs import save_checkpoint, write_ner

from minialbert_tf import finetuning
from minialbert_tf.cli import main


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_ner(tmp_path_factory.mktemp("corpus") / "data")


@pytest.fixture(scope="module")
def checkpoint(corpus, tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model", corpus, num_hidden_layers=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs a command; returns its status, standard output and standard error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def eager(monkeypatch):
    """Trains tiny models without graphs."""
    tiny = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    monkeypatch.setitem(finetuning.SIZES, "tiny", {**tiny, "num_hidden_layers": 1})
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from golden_values import GOLDEN
from safetensors.numpy import load_file
from tensorflow import keras
from tiny_runs import PARTS, has_bfloat16_on_cpu, save_checkpoint, write_ner, write_table

from minialbert_tf import finetuning
from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.errors import CheckpointError, DataError, InputError
from minialbert_tf.finetuning import EPOCHS, LEARNING_RATES, Settings, finetune
from minialbert_tf.models import MiniAlbertForSequenceClassification, MiniAlbertForTokenClassification
from minialbert_tf.tokenization import WordPieceTokenizer
from minialbert_tf.training import Trainer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_ner(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def checkpoint(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    return save_checkpoint(folder, corpus, num_hidden_layers=1, use_adapter=False)


@pytest.fixture(scope="module", autouse=True)
def small_sizes():
    """Models from scratch that take no time, and no graphs unless a test asks for them."""
    sizes = finetuning.SIZES["tiny"]
    tiny = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    finetuning.SIZES["tiny"] = {**tiny, "num_hidden_layers": 1}
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
    finetuning.SIZES["tiny"] = sizes


@pytest.fixture
def graphs():
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


def settings_of(data, **changes):
    defaults = {
        "task": "ner",
        "model": "scratch",
        "size": "tiny",
        "vocab_size": 100,
        "max_length": 32,
        "epochs": 2,
        "batch_size": 8,
    }
    return Settings(**{**defaults, "data": str(data), "learning_rate": 0.02, **changes})


@pytest.fixture(scope="module")
def scratch(corpus, small_sizes, tmp_path_factory):
    """A run from scratch: its output and its results."""
    output = tmp_path_factory.mktemp("scratch") / "model"
    return output, finetune(settings_of(corpus, epochs=3), output)


def scores_of(results):
    epochs = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in results["epochs"]]
    return {**results, "epochs": epochs}


def test_ner_from_scratch(scratch):
    output, results = scratch
    assert json.loads((output / "results.json").read_text()) == results
    assert [path.name for path in output.parent.iterdir()] == ["model"]
    assert results["epochs"][0]["loss"] > results["epochs"][-1]["loss"]
    best = max(epoch["score"] for epoch in results["epochs"])
    assert results["dev"]["entities"]["micro"]["f1"] == pytest.approx(best)
    assert results["dev"]["sentences"] == results["test"]["sentences"] == PARTS["dev"]
    assert results["settings"]["learning_rate"] == 0.02 and len(results["settings"]["data_sha256"]) == 64
    model = MiniAlbertForTokenClassification.from_pretrained(output)
    assert model.config.labels == ["O", "B-Disease", "I-Disease", "B-Drug", "I-Drug"]
    assert len(model.tokenizer.vocabulary) == model.config.vocab_size <= 100
    assert model.config.max_position_embeddings == 32


def test_the_same_seed_gives_the_same_results(scratch, corpus, tmp_path):
    again = finetune(settings_of(corpus, epochs=3), tmp_path / "again")
    assert scores_of(again) == scores_of(scratch[1])
    other = finetune(settings_of(corpus, epochs=1, seed=1), tmp_path / "other")
    assert other["epochs"][0]["loss"] != again["epochs"][0]["loss"]


def test_labels_on_all_pieces(corpus, tmp_path):
    losses = {}
    for label_pieces in ("first", "all"):
        run = settings_of(corpus, epochs=1, vocab_size=50, label_pieces=label_pieces)  # a small one: words in pieces
        results = finetune(run, tmp_path / label_pieces)
        losses[label_pieces] = results["epochs"][0]["loss"]
        assert results["settings"]["label_pieces"] == label_pieces
        assert 0 <= results["dev"]["piece_f1"] <= 1
    assert losses["first"] != losses["all"]


def test_classification_of_pairs(graphs, tmp_path):
    data = write_table(tmp_path / "data", "pairs")
    columns = ("sentence", "other", "label")
    results = finetune(settings_of(data, task="classification", columns=columns, epochs=8), tmp_path / "model")
    assert results["test"]["texts"] == PARTS["test"]
    assert results["test"]["accuracy"] > 0.7
    assert max(epoch["score"] for epoch in results["epochs"]) == pytest.approx(results["dev"]["accuracy"])
    config = MiniAlbertConfig.from_pretrained(tmp_path / "model")
    assert (config.labels, config.problem_type) == (["no", "yes"], "single_label_classification")


def test_regression(tmp_path):
    data = write_table(tmp_path / "data", "regression")
    results = finetune(settings_of(data, task="regression", epochs=3), tmp_path / "model")
    assert results["dev"]["mse"] == pytest.approx(-max(epoch["score"] for epoch in results["epochs"]), rel=1e-4)
    assert results["epochs"][-1]["loss"] < results["epochs"][0]["loss"]
    model = MiniAlbertForSequenceClassification.from_pretrained(tmp_path / "model")
    assert (model.config.labels, model.config.problem_type) == (["score"], "regression")


@pytest.mark.parametrize("name", ["token_adapters", "token_no_adapters"])
def test_adapters_only_from_a_checkpoint_of_the_original(name, corpus, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(GOLDEN / name, source)
    size = MiniAlbertConfig.from_pretrained(source).vocab_size
    WordPieceTokenizer.train(["lung pain asthma", "aspirin and naloxone"], size, lowercase=True).save(source)
    run = settings_of(corpus, model=str(source), adapters_only=True, epochs=1, max_length=16)
    assert run.with_defaults().learning_rate == 0.02
    finetune(run, tmp_path / "model")
    before = MiniAlbertForTokenClassification.from_pretrained(source, new_head=True, num_labels=5)
    after = MiniAlbertForTokenClassification.from_pretrained(tmp_path / "model")
    assert after.config.use_adapter
    for part in ("embeddings", "recursive_encoder.block"):
        for model in (before, after):
            layer = model.encoder
            for step in part.split("."):
                layer = getattr(layer, step)
            model.part = [np.asarray(weight) for weight in layer.weights]
        assert all(map(np.array_equal, before.part, after.part)), part
    if name == "token_adapters":
        old, new = (model.encoder.recursive_encoder.attention_adapters[0].down.kernel for model in (before, after))
        assert np.abs(np.asarray(old) - np.asarray(new)).max() > 1e-4


def test_defaults_follow_from_what_is_trained():
    for kind, changes in (
        ("builtin", {}),
        ("scratch", {"model": "scratch"}),
        ("full", {"model": "folder"}),
        ("adapters", {"model": "folder", "adapters_only": True}),
    ):
        filled = Settings("ner", "data", **changes).with_defaults()
        assert (filled.learning_rate, filled.epochs) == (LEARNING_RATES[kind], EPOCHS[kind])
    assert len(set(LEARNING_RATES.values())) > 1


def test_mixed_precision(checkpoint, corpus, graphs, tmp_path):
    losses = []
    for mixed in (False, True):
        run = settings_of(corpus, model=str(checkpoint), mixed_precision=mixed)
        results = finetune(run, tmp_path / str(mixed))
        losses.append(results["epochs"][-1]["loss"])
        assert keras.mixed_precision.global_policy().name == "float32"
    assert losses[0] != losses[1] or not has_bfloat16_on_cpu()
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    tensors = load_file(tmp_path / "True" / "model.safetensors")
    assert {array.dtype.name for array in tensors.values()} == {"float32"}


def test_the_policy_is_restored_after_an_error(tmp_path):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with pytest.raises(DataError):
            finetune(settings_of(tmp_path / "nothing"), tmp_path / "model")
        assert keras.mixed_precision.global_policy().name == "mixed_float16"
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_xla(checkpoint, graphs, tmp_path):
    (tmp_path / "train.tsv").write_text("asthma\tB-Disease\nof\tO\n\naspirin\tB-Drug\npain\tI-Drug\n")  # one length
    run = settings_of(tmp_path, model=str(checkpoint), batch_size=1)
    tf.config.run_functions_eagerly(True)
    plain = finetune(run, tmp_path / "plain")
    tf.config.run_functions_eagerly(False)
    compiled = finetune(dataclasses.replace(run, xla=True), tmp_path / "compiled")
    for one, other in zip(plain["epochs"], compiled["epochs"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_without_dev_the_last_epoch_is_kept(tmp_path):
    data = write_ner(tmp_path / "data", {"train": 8, "test": 4})
    results = finetune(settings_of(data, epochs=1), tmp_path / "model")
    assert "dev" not in results and results["test"]["sentences"] == 4
    assert results["epochs"][0]["score"] is None


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_existing_output_is_refused_before_any_work(tmp_path):
    output = tmp_path / "model"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="must not exist yet"):
        finetune(settings_of(tmp_path / "no-such-data"), output)
    assert contents(tmp_path) == {Path("model/notes.txt"): b"mine"}


def test_force_replaces_the_output_only_when_all_is_done(checkpoint, corpus, tmp_path):
    output = tmp_path / "model"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(DataError):
        finetune(settings_of(tmp_path / "no-such-data"), output, force=True)
    assert contents(tmp_path) == {Path("model/notes.txt"): b"mine"}
    finetune(settings_of(corpus, model=str(checkpoint), epochs=1), output, force=True)
    assert not (output / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_labels_that_train_lacks_are_refused(part, tmp_path):
    data = write_ner(tmp_path / "data")
    (data / f"{part}.tsv").write_text("x\tB-Gene\n\n")
    with pytest.raises(DataError, match=rf"{part}\.tsv: Every tag must be one of .* Received: B-Gene"):
        finetune(settings_of(data), tmp_path / "model")
    table = write_table(tmp_path / "table", "classification")
    with (table / f"{part}.tsv").open("a") as file:
        file.write("9\ttext\tother\tmaybe\n")
    with pytest.raises(DataError, match=rf"{part}\.tsv must use only the classes no, yes. Received also: maybe"):
        finetune(settings_of(table, task="classification"), tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "table"]


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "parsing"},
        {"size": "huge"},
        {"epochs": 0},
        {"batch_size": 0},
        {"max_length": 7},
        {"seed": -1},
        {"schedule": "constant"},
        {"warmup": 1.0},
        {"warmup": float("nan")},
        {"clip_norm": 0.0},
        {"weight_decay": -0.1},
        {"learning_rate": -1.0},
        {"label_pieces": "some"},
        {"vocab_size": 3},
    ],
    ids=str,
)
def test_settings_out_of_range_are_named(changes, corpus, tmp_path):
    [(name, value)] = changes.items()
    with pytest.raises(InputError, match=rf"^{name} must be .* Received: {value!r}"):
        finetune(settings_of(corpus, **changes), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_do_not_fit_are_refused(checkpoint, corpus, tmp_path):
    with pytest.raises(InputError, match=r"max_position_embeddings=32. Received: 64"):
        finetune(settings_of(corpus, model=str(checkpoint), max_length=64), tmp_path / "model")
    with pytest.raises(InputError, match="must hold its tokenizer"):
        finetune(settings_of(corpus, model=str(GOLDEN / "token_adapters"), max_length=16), tmp_path / "model")
    with pytest.raises(CheckpointError, match="must be such a folder"):
        finetune(settings_of(corpus, model=str(tmp_path / "nothing")), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_train_is_needed_and_must_hold_words(tmp_path):
    data = write_ner(tmp_path / "data", {"dev": 3})
    with pytest.raises(DataError, match=r"needs train\.tsv"):
        finetune(settings_of(data), tmp_path / "model")
    (data / "train.tsv").write_text("\x00\tO\n")
    (data / "dev.tsv").unlink()
    with pytest.raises(DataError, match="a character that the tokenizer keeps"):
        finetune(settings_of(data), tmp_path / "model")


def test_only_the_same_run_is_resumed(checkpoint, tmp_path, monkeypatch):
    data = write_ner(tmp_path / "data", {"train": 8})
    run = settings_of(data, model=str(checkpoint))

    def killed(trainer):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(run, tmp_path / "model")
    monkeypatch.undo()
    before = contents(tmp_path / "model.training")
    with pytest.raises(InputError, match=r"same settings.*use --restart.*learning_rate: 0.02 then, 0.01 now"):
        finetune(settings_of(data, model=str(checkpoint), learning_rate=0.01), tmp_path / "model")
    write_ner(data, {"train": 8}, seed=1)
    with pytest.raises(InputError, match="data_sha256"):
        finetune(run, tmp_path / "model")
    assert contents(tmp_path / "model.training") == before
    assert not (tmp_path / "model").exists()
    finetune(run, tmp_path / "model", restart=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "model"]


def step_of(work):
    """Batches that the saved state has seen."""
    with np.load(work / "state.npz") as state:
        return json.loads(str(state["state"]))[0]


def start(command, until):
    """Starts a run, waits until `until()` holds, and kills it then unless it ends by itself."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not until():
        time.sleep(0.005)
    if process.poll() is None:
        time.sleep(random.uniform(0, 0.05))  # anywhere in a batch, a save, an evaluation
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    return process.returncode, errors.decode()


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(checkpoint, corpus, graphs, tmp_path):
    steps = 2 * PARTS["train"] // 4
    run = settings_of(corpus, model=str(checkpoint), batch_size=4)
    expected = finetune(run, tmp_path / "whole")
    work = tmp_path / "model.training"
    command = [sys.executable, "-m", "minialbert_tf.cli", "finetune", "--data", str(corpus), "--model", str(checkpoint)]
    command += ["--epochs", "2", "--batch-size", "4", "--max-length", "32", "--learning-rate", "0.02"]
    command += ["--vocab-size", "100", "--size", "tiny", "--output", str(tmp_path / "model"), "--save-seconds", "0"]
    reached = 0
    for first, last in ((1, 3), (5, 8)):
        moment = random.randint(first, last)
        code, errors = start(command, lambda at=moment: (work / "state.npz").is_file() and step_of(work) >= at)
        assert code == -signal.SIGKILL, errors
        assert moment <= step_of(work) < steps
        assert f"resuming after step {reached} of {steps}" in errors or reached == 0
        reached = step_of(work)
        assert not (tmp_path / "model").exists()
    code, errors = start(command, lambda: False)
    assert code == 0, errors
    assert f"resuming after step {reached} of {steps}" in errors

    results = json.loads((tmp_path / "model" / "results.json").read_text())
    losses = [[epoch.pop("loss") for epoch in each["epochs"]] for each in (results, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert scores_of(results) == scores_of(expected)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, atol=1e-6, err_msg=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]

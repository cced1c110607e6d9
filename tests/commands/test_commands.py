"""Every command but `tag`, at work."""

import json
import shutil

import numpy as np
import pytest
from command_checks import assert_refused
from golden_values import GOLDEN
from safetensors.numpy import load_file
from tiny_runs import change_config, save_checkpoint, write_ner, write_table

from minialbert_tf.checkpoints.reader import find_weights, read_tensors


def test_evaluate_a_folder(checkpoint, corpus, run):
    code, out, _ = run("evaluate", "--model", checkpoint, "--data", corpus, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["sentences"] == 8 and 0 <= report["entities"]["micro"]["f1"] <= 1
    code, out, _ = run("evaluate", "--model", checkpoint, "--data", corpus, "--part", "dev")
    assert code == 0 and "micro average" in out and "on 8 sentences" in out


def test_evaluate_a_file(tiny_tagger_file, folder, run):
    (folder / "test.tsv").write_text("Aspirin\tB-X\ncaused\tO\nasthma\tB-X\n")
    code, out, _ = run("evaluate", "--model", tiny_tagger_file, "--data", ".", "--json", "--label-pieces", "all")
    assert code == 0
    assert json.loads(out)["entities"]["micro"]["support"] == 2


@pytest.mark.parametrize(("task", "score"), [("classification", "accuracy"), ("regression", "pearson")])
def test_finetune_and_evaluate_texts(task, score, folder, run, eager):
    write_table(folder / "data", task, {"train": 8, "test": 4})
    columns = ("--data", "data", "--task", task, "--pair-column", "other")
    training = ("--model", "scratch", "--size", "tiny", "--vocab-size", "100", "--epochs", "1", "--max-length", "16")
    code, out, err = run("finetune", *columns, *training, "--output", "model", "--json")
    assert code == 0 and "epoch 1/1" in err
    results = json.loads(out)
    code, out, _ = run("evaluate", *columns, "--model", "model", "--json")
    assert code == 0
    assert json.loads(out) == pytest.approx(results["test"], abs=1e-6)
    assert score in run("evaluate", *columns, "--model", "model")[1]


def test_finetune_prints_only_json_on_standard_output(corpus, folder, run, eager):
    command = (
        "finetune",
        "--data",
        corpus,
        "--model",
        "scratch",
        "--size",
        "tiny",
        "--vocab-size",
        "100",
        "--epochs",
        "1",
    )
    command = (*command, "--max-length", "32", "--batch-size", "24", "--cased", "--schedule", "linear")
    code, out, _ = run(*command, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((folder / "model" / "results.json").read_text())
    assert json.loads(out)["settings"]["lowercase"] is False
    code, out, err = run(*command, "--force")
    assert (code, out) == (0, "\nwrote model\n")
    assert "dev score" in err


@pytest.mark.parametrize("name", ["token_adapters", "masked_lm", "encoder_only"])
def test_port_to_keras_and_back(name, folder, run):
    code, out, _ = run("port", GOLDEN / name, "model.keras")
    assert code == 0 and "tensors loaded" in out and "wrote model.keras: MiniAlbert" in out
    code, out, _ = run("port", "model.keras", "back")
    assert code == 0 and "a Keras archive of MiniAlbert" in out
    original, back = read_tensors(find_weights(GOLDEN / name)), load_file(folder / "back" / "model.safetensors")
    unused = {key for key in original if "pooler" in key or key.endswith("_ids")}  # a Keras archive has no place
    assert back.keys() == original.keys() - unused
    for key, array in back.items():
        np.testing.assert_array_equal(array, original[key], err_msg=key)


def test_port_says_what_became_of_each_tensor(folder, run):
    code, out, _ = run("port", GOLDEN / "masked_lm", "ner", "--head", "ner", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["initialised"] == ["classifier.bias", "classifier.weight"]
    assert "vocab_projector.weight" in report["ignored"] and len(report["loaded"]) > 20
    code, out, _ = run("port", GOLDEN / "masked_lm", "ner", "--head", "ner", "--force")
    assert "newly initialised, to be trained: classifier.bias, classifier.weight" in out
    code, _, _ = run("port", GOLDEN / "masked_lm", "half", "--dtype", "float16")
    assert {array.dtype.name for array in load_file(folder / "half" / "model.safetensors").values()} >= {"float16"}


def test_port_asks_for_the_head_of_an_unknown_architecture(checkpoint, folder, run):
    shutil.copytree(checkpoint, folder / "model")
    change_config(folder / "model", architectures=["AlbertModel"])
    assert_refused(run("port", "model", "ported"), "port", "or use --head. Received: 'AlbertModel'")
    assert run("port", "model", "ported", "--head", "ner")[0] == 0


def test_export(checkpoint, folder, run):
    command = ("export", "tflite", "--model", checkpoint, "--output", "ner.tflite", "--lengths", "16")
    code, out, _ = run(*command, "--json")
    assert code == 0
    card = json.loads(out)
    assert (card["sequence_lengths"], card["quantization"]) == ([16], "int8")
    assert json.loads(run("tag", "--model", "ner.tflite", "lung pain")[1])["text"] == "lung pain"


def test_demo(tiny_tagger_file, corpus, folder, tmp_path_factory, run, eager, monkeypatch):
    """On a small corpus with small models, and with a file in place of the export, which has tests of its own."""
    monkeypatch.setattr("minialbert_tf.tagger.TAGGER", tiny_tagger_file)
    encoder = save_checkpoint(tmp_path_factory.mktemp("encoder") / "model", corpus, max_position_embeddings=256)
    monkeypatch.setattr("minialbert_tf.checkpoints.hub.ENCODER", encoder)
    data = write_ner(folder / "sample", {"train": 8, "dev": 4, "test": 4})
    for path in data.iterdir():
        path.write_text(path.read_text().replace("-Disease", "-X").replace("-Drug", "-X"))
    monkeypatch.setattr("minialbert_tf.data.sample.sample_folder", lambda: data)
    monkeypatch.setattr(
        "minialbert_tf.export.tflite.export_tflite", lambda model, path: shutil.copy(tiny_tagger_file, path)
    )
    code, out, _ = run("demo", "--epochs", "1")
    assert code == 0
    assert [line[:2] for line in out.splitlines() if line[1:2] == "."] == ["1.", "2.", "3.", "4.", "5."]
    assert "micro average" in out and "Naloxone" in out and "MB" in out and "ms a sentence" in out
    assert sorted(path.name for path in (folder / "demo").iterdir()) == ["model", "ner.tflite"]
    assert sorted(path.name for path in folder.iterdir()) == ["demo", "sample"]

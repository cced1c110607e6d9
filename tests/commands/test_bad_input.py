"""Bad input on the command line: one line of error, nothing written or lost."""

import os
import pickle
import shutil

import numpy as np
import pytest
from command_checks import assert_refused, tree
from golden_values import GOLDEN
from safetensors.numpy import load_file, save_file
from tiny_runs import change_config, write_table


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("made-by-a-pickle",))


def replace_weights(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


BAD_CHECKPOINTS = {
    "missing": (shutil.rmtree, "must be such a folder"),
    "no config": (lambda m: (m / "config.json").unlink(), "must hold config.json"),
    "config no JSON": (lambda m: (m / "config.json").write_text("{"), "must be JSON"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "empty": (lambda m: (m / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "truncated": (
        lambda m: (m / "model.safetensors").write_bytes((m / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors",
    ),
    "wrong format": (lambda m: (m / "model.safetensors").write_bytes(b"GIF89a" * 99), "model.safetensors"),
    "truncated zip": (
        lambda m: replace_weights(m, (GOLDEN / "token_adapters" / "pytorch_model.bin").read_bytes()[:-99]),
        "pytorch_model.bin",
    ),
    "evil pickle": (lambda m: replace_weights(m, pickle.dumps(Evil())), "mkdir"),
    "missing tensor": (
        lambda m: change_tensors(m, lambda tensors: tensors.pop("albert.projector.bias")),
        "missing albert.projector.bias",
    ),
    "extra tensor": (
        lambda m: change_tensors(m, lambda tensors: tensors.update(extra=np.zeros(2, np.float32))),
        "unexpected extra (2,)",
    ),
    "transposed tensor": (
        lambda m: change_tensors(
            m,
            lambda tensors: tensors.update(
                {"albert.projector.weight": np.ascontiguousarray(tensors["albert.projector.weight"].T)}
            ),
        ),
        "wrong albert.projector.weight",
    ),
    "unknown model_type": (lambda m: change_config(m, model_type="gpt"), "model_type must be one of"),
    "heads": (lambda m: change_config(m, num_attention_heads=3), "num_attention_heads must divide hidden_size"),
    "reduction_factor": (lambda m: change_config(m, reduction_factor=17), "reduction_factor must not exceed"),
    "no tokenizer": (
        lambda m: [(m / name).unlink() for name in ("tokenizer.json", "vocab.txt")],
        "must have its tokenizer",
    ),
    "labels": (
        lambda m: change_config(m, id2label={"0": "O", "1": "X", "2": "Y", "3": "Z", "4": "W"}),
        "Labels must be IOB2",
    ),
}


@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_bad_checkpoints(name, checkpoint, folder, run):
    damage, message = BAD_CHECKPOINTS[name]
    shutil.copytree(checkpoint, folder / "model")
    damage(folder / "model")
    before = tree(folder)
    assert_refused(run("tag", "--model", folder / "model", "some text"), "tag", message)
    if message not in ("must have its tokenizer", "Labels must be IOB2"):
        assert_refused(run("port", folder / "model", "ported"), "port", message)
    assert tree(folder) == before


def test_an_undecodable_keras_archive(checkpoint, folder, run):
    assert run("port", checkpoint, "model.keras")[0] == 0
    content = (folder / "model.keras").read_bytes()
    for damaged in (b"", b"no zip", content[: len(content) // 2], content.replace(b"minialbert", b"minialpert")):
        (folder / "model.keras").write_bytes(damaged)
        before = tree(folder)
        assert_refused(run("port", "model.keras", "back"), "port", "model.keras must be a Keras archive")
        assert tree(folder) == before


BAD_CORPORA = {
    "one column": (b"asthma\n", "train.tsv:1: A line must have a token and a tag"),
    "tag": (b"a\tO\nasthma\tE-Disease\n", "train.tsv:2: A tag must be O, B-TYPE or I-TYPE"),
    "I without B": (b"a\tB-Drug\n\na\tO\nb\tI-Drug\n", "train.tsv:4: I- must follow a B- or I- tag"),
    "UTF-8": (b"a\tO\n\xff\tO\n", "train.tsv:2: The text must be UTF-8"),
    "empty": (b"\n\n", "at least one sentence"),
    "no words": (b"\x00\tO\n", "a character that the tokenizer keeps"),
}


@pytest.mark.parametrize("name", BAD_CORPORA)
def test_bad_corpora(name, folder, run):
    content, message = BAD_CORPORA[name]
    (folder / "train.tsv").write_bytes(content)
    assert_refused(
        run("finetune", "--data", ".", "--model", "scratch", "--size", "tiny", "--output", "model"), "finetune", message
    )
    assert [path.name for path in folder.iterdir()] == ["train.tsv"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("text\tyes\n", "dev.tsv:3: A line must have as many fields as the header, 4"),
        ("9\ttext\tother\t \n", "dev.tsv:3: A label must not be empty"),
        ("9\ttext\tother\tmaybe\n", "dev.tsv must use only the classes no, yes. Received also: maybe"),
    ],
)
def test_bad_tables(line, message, folder, run):
    write_table(folder, "classification", {"train": 4, "dev": 1})
    with (folder / "dev.tsv").open("a") as file:
        file.write(line)
    command = ("finetune", "--task", "classification", "--data", ".", "--output", "model")
    assert_refused(run(*command), "finetune", message)
    assert_refused(run(*command, "--text-column", "nothing"), "finetune", "must name the column 'nothing'")
    assert not (folder / "model").exists()


def test_labels_at_odds_with_the_model(checkpoint, folder, run):
    (folder / "test.tsv").write_text("BRCA1\tB-Gene\n")
    (folder / "train.tsv").write_text("a\tO\n")
    assert_refused(run("finetune", "--data", "."), "finetune", "Every tag must be one of O. Received: B-Gene")
    command = ("evaluate", "--model", checkpoint, "--data", ".")
    assert_refused(run(*command), "evaluate", "must use the model's labels")
    (folder / "test.tsv").write_text("sentence\tlabel\nsome text\tmaybe\n")
    assert_refused(run(*command, "--task", "classification"), "evaluate", "must use only the classes O, B-Disease")
    assert_refused(run(*command, "--task", "classification", "--part", "dev"), "evaluate", "dev.tsv")


def test_outputs_that_exist(checkpoint, folder, run):
    for name in ("model", "ner.tflite", "model.keras"):
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")
    before = tree(folder)
    for command in (
        ("finetune", "--data", "none", "--output", "model"),
        ("port", checkpoint, "model"),
        ("port", checkpoint, "model.keras"),
        ("export", "tflite", "--model", checkpoint, "--output", "ner.tflite"),
        ("demo", "--output", "model"),
    ):
        assert_refused(run(*command), command[0], "use force (--force) to replace it")
    assert tree(folder) == before


def test_bad_models_and_arguments(checkpoint, tiny_tagger_file, folder, run):
    (folder / "notes.tflite").write_text("no model")
    damaged = bytearray(tiny_tagger_file.read_bytes())
    damaged[1000] ^= 1
    (folder / "damaged.tflite").write_bytes(damaged)
    before = tree(folder)
    for arguments, message in (
        (("tag", "--model", "no.tflite", "x"), "must be a .tflite file. Received: no.tflite"),
        (("tag", "--model", "notes.tflite", "x"), "must be a .tflite file. Received: notes.tflite"),
        (("tag", "--model", "damaged.tflite", "x"), "the file is damaged"),
        (("tag", "--model", tiny_tagger_file, "--threads", "0", "x"), "threads must be at least 1"),
        (("tag", "--model", tiny_tagger_file, "--file", "none.txt"), "No such file or directory: 'none.txt'"),
        (("tag", "--model", tiny_tagger_file, "--file", "none.txt", "x"), "not from both"),
        (("evaluate", "--model", tiny_tagger_file, "--data", "none"), "none/test.tsv"),
        (("export", "tflite", "--model", checkpoint, "--output", "x", "--lengths", "4"), "sequence_lengths must be"),
        (("port", checkpoint, "ported", "--head", "none"), None),
        (("port", GOLDEN / "token_adapters", "ported2", "--head", "masked-lm"), None),
        (("finetune", "--data", "none", "--epochs", "0"), "epochs must be at least 1"),
    ):
        if message:
            assert_refused(run(*arguments), arguments[0], message)
            assert tree(folder).keys() == before.keys()
        else:  # other heads are loaded and reported, not refused
            assert run(*arguments)[0] == 0
            before = tree(folder)


def test_a_full_disk_leaves_the_old_model(checkpoint, folder, run, monkeypatch):
    assert run("port", checkpoint, "model")[0] == 0
    before = tree(folder)

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minialbert_tf.checkpoints.port.write_safetensors", full_disk)
    assert_refused(run("port", checkpoint, "model", "--force"), "port", "No space left on device")
    assert tree(folder) == before


def test_an_interruption_by_hand(folder, run, monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("minialbert_tf.commands.tag.open_tagger", interrupt)
    assert run("tag", "--model", "x.tflite", "x") == (130, "", "minialbert tag: interrupted\n")

"""Task distillation: its loss, its batches and whole runs, under whichever Keras TF_USE_LEGACY_KERAS selects."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from tensorflow import keras
from tiny_runs import bert_config, save_bert, save_checkpoint, tiny_config, write_ner, write_table, write_texts

from minialbert_tf import finetuning
from minialbert_tf.data.batching import BatchedExamples, Example, Shard
from minialbert_tf.distillation.task import TEACHER_LABEL, TaskDistillationLoss, TaughtExamples
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.finetuning import Settings, finetune
from minialbert_tf.losses import IGNORED_LABEL
from minialbert_tf.models import (
    MiniAlbertForSequenceClassification,
    MiniAlbertForTokenClassification,
    MiniAlbertModel,
)
from minialbert_tf.tagger import Tagger
from minialbert_tf.teacher import BertForTokenClassification, BertModel
from minialbert_tf.tokenization import WordPieceTokenizer

ROOT = Path(__file__).parents[2]
CLASSES = 4
LABELS = np.array([[IGNORED_LABEL, 0, 3, TEACHER_LABEL], [1, TEACHER_LABEL, IGNORED_LABEL, 2]])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Models from scratch that take no time, and no graphs unless a test asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
        patch.setitem(finetuning.SIZES, "tiny", {**tiny, "num_hidden_layers": 1})
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def graphs():
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def expected_loss(labels, taught, learned, weight, temperature):
    """The loss, position by position."""
    losses = []
    for label, t, s in zip(labels.ravel(), taught.reshape(-1, CLASSES), learned.reshape(-1, CLASSES), strict=True):
        if label == IGNORED_LABEL:
            continue
        log_t, log_s = log_softmax(t / temperature), log_softmax(s / temperature)
        divergence = temperature**2 * np.sum(np.exp(log_t) * (log_t - log_s))
        own = divergence if label == TEACHER_LABEL else -log_softmax(s)[label]
        losses.append(weight * divergence + (1 - weight) * own)
    return np.mean(losses)


def random_logits(seed=0):
    return 3 * np.random.default_rng(seed).normal(size=(2, *LABELS.shape, CLASSES)).astype(np.float32)


def targets_of(labels, taught):
    return np.concatenate([labels[..., None], taught], axis=-1).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_a_mean_over_what_counts(weight, temperature):
    taught, learned = random_logits()
    loss = TaskDistillationLoss(weight, temperature)
    expected = expected_loss(LABELS, taught, learned, weight, temperature)
    assert float(loss(targets_of(LABELS, taught), learned)) == pytest.approx(expected, rel=1e-5)
    flat = targets_of(LABELS.ravel(), taught.reshape(-1, CLASSES))  # one label for each text
    assert float(loss(flat, learned.reshape(-1, CLASSES))) == pytest.approx(expected, rel=1e-5)
    for other in ((0.5, temperature), (weight, 4 * temperature)):
        assert expected_loss(LABELS, taught, learned, *other) != pytest.approx(expected, rel=1e-3)


def test_positions_that_do_not_count_change_nothing_and_others_do():
    taught, learned = random_logits()
    loss, targets = TaskDistillationLoss(), targets_of(LABELS, taught)
    expected = float(loss(targets, learned))
    for row, column in np.ndindex(LABELS.shape):
        changed = learned.copy()
        changed[row, column, 0] += 1
        same = float(loss(targets, changed)) == pytest.approx(expected, abs=1e-6)
        assert same == (LABELS[row, column] == IGNORED_LABEL)


def test_extremes():
    taught, learned = random_logits()
    nothing = np.full_like(LABELS, IGNORED_LABEL)
    assert float(TaskDistillationLoss()(targets_of(nothing, taught), learned)) == 0
    only_taught = np.full_like(LABELS, TEACHER_LABEL)
    assert float(TaskDistillationLoss()(targets_of(only_taught, taught), taught)) == pytest.approx(0, abs=1e-6)
    sure = 100 * np.sign(learned)
    assert np.isfinite(float(TaskDistillationLoss()(targets_of(LABELS, sure), -sure)))


def test_the_loss_survives_serialisation():
    loss = TaskDistillationLoss(0.7, 3.0)
    again = keras.utils.deserialize_keras_object(keras.utils.serialize_keras_object(loss))
    taught, learned = random_logits()
    targets = targets_of(LABELS, taught)
    assert float(again(targets, learned)) == float(loss(targets, learned))
    assert float(again(targets, learned)) != float(TaskDistillationLoss()(targets, learned))


def test_taught_examples_are_the_examples_with_the_teachers_logits():
    teacher = BertForTokenClassification(bert_config(num_labels=CLASSES, num_hidden_layers=1))
    examples = [Example([2, n, *range(5, 5 + n), 3], [-100, n, *[TEACHER_LABEL] * n, -100]) for n in range(3)]
    plain, taught = BatchedExamples(examples, 2, seed=1), TaughtExamples(examples, 2, seed=1, teacher=teacher)
    assert taught.steps == plain.steps == 2
    for (x, labels), (same_x, targets) in zip(plain.dataset(0), taught.dataset(0), strict=True):
        assert targets.dtype == tf.float32 and targets.shape == (*labels.shape, 1 + CLASSES)
        for name in x:
            np.testing.assert_array_equal(x[name], same_x[name])
        np.testing.assert_array_equal(targets[..., 0], labels)
        np.testing.assert_allclose(targets[..., 1:], teacher(x), atol=1e-5)
        assert np.abs(targets[..., 1:]).max() > 0.01


def test_taught_texts_have_one_row_of_targets_each():
    model = MiniAlbertForSequenceClassification(tiny_config(num_labels=CLASSES))
    examples = [Example([2, 5, 3], 1, [0, 0, 0]), Example([2, 6, 7, 3], TEACHER_LABEL, [0, 0, 1, 1])]
    [(inputs, targets)] = TaughtExamples(examples, 2, teacher=model).dataset(0)
    assert sorted(targets[:, 0].numpy().tolist()) == [TEACHER_LABEL, 1]
    np.testing.assert_allclose(targets[:, 1:], model(inputs), atol=1e-6)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_ner(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "raw.txt", 20, seed=7)


def settings_of(data, **changes):
    defaults = {"task": "ner", "size": "tiny", "vocab_size": 100, "max_length": 32, "epochs": 1, "batch_size": 8}
    return Settings(**{**defaults, "data": str(data), "learning_rate": 0.01, **changes})


@pytest.fixture(scope="module")
def bert(texts, tmp_path_factory):
    """A BERT's encoder."""
    return save_bert(tmp_path_factory.mktemp("bert") / "bert", texts, BertModel, num_hidden_layers=1)


@pytest.fixture(scope="module")
def teacher(bert, corpus, tmp_path_factory):
    """That BERT, fine-tuned."""
    output = tmp_path_factory.mktemp("teacher") / "teacher"
    finetune(settings_of(corpus, model=str(bert), epochs=2), output)
    return output


@pytest.fixture(scope="module")
def student(bert, tmp_path_factory):
    """A MiniALBERT's encoder with the same tokenizer."""
    folder = tmp_path_factory.mktemp("student") / "student"
    tokenizer = WordPieceTokenizer.from_pretrained(bert)
    model = MiniAlbertModel(tiny_config(vocab_size=len(tokenizer.vocabulary), num_hidden_layers=1))
    model.tokenizer = tokenizer
    model.save_pretrained(folder)
    return folder


def test_a_bert_can_be_fine_tuned_to_teach(teacher, corpus):
    results = json.loads((teacher / "results.json").read_text())
    assert results["epochs"][1]["loss"] < results["epochs"][0]["loss"]
    model = BertForTokenClassification.from_pretrained(teacher)
    assert model.config.labels == ["O", "B-Disease", "I-Disease", "B-Drug", "I-Drug"]
    assert model.load_report.initialised == ()
    assert isinstance(Tagger.from_pretrained(teacher)("aspirin"), list)


def disagreement(student, teacher, texts):
    """The mean divergence of a student from its teacher where words of raw text begin."""
    models = (
        MiniAlbertForTokenClassification.from_pretrained(student),
        BertForTokenClassification.from_pretrained(teacher),
    )
    total = []
    for line in texts.read_text().splitlines():
        ids = np.array([[2, *models[0].tokenizer.encode(line).ids, 3]], np.int32)
        learned, taught = (log_softmax(np.asarray(model({"input_ids": ids}))) for model in models)
        total.append(np.sum(np.exp(taught) * (taught - learned), axis=-1).mean())
    return np.mean(total)


def test_a_student_learns_to_judge_raw_text_as_its_teacher_does(student, teacher, corpus, texts, tmp_path, capsys):
    run = settings_of(corpus, model=str(student), teacher=str(teacher), teacher_weight=1.0, epochs=3)
    finetune(dataclasses.replace(run, learning_rate=1e-9), tmp_path / "start")
    results = finetune(dataclasses.replace(run, unlabelled=(str(texts),)), tmp_path / "taught")
    assert "teach, on 24 labelled and 20 raw sequences" in capsys.readouterr().err
    assert results["settings"]["unlabelled"] == [str(texts)]
    start, taught = (disagreement(tmp_path / name, teacher, texts) for name in ("start", "taught"))
    assert taught < 0.7 * start


def test_texts_can_be_taught_as_well(tmp_path):
    data = write_table(tmp_path / "data", "classification", {"train": 8, "dev": 4})
    raw = write_texts(tmp_path / "raw.txt", 6)
    run = settings_of(data, task="classification")
    finetune(dataclasses.replace(run, model="scratch"), tmp_path / "teacher")
    taught = dataclasses.replace(run, model=str(tmp_path / "teacher"), teacher=str(tmp_path / "teacher"))
    taught = dataclasses.replace(taught, unlabelled=(str(raw),), teacher_weight=1.0, learning_rate=1e-9)
    results = finetune(taught, tmp_path / "student")
    # Dropout alone sets the student apart from the teacher that it is.
    assert 0 < results["epochs"][0]["loss"] < 0.1
    labelled = finetune(dataclasses.replace(taught, teacher_weight=0.0, unlabelled=()), tmp_path / "labelled")
    assert labelled["epochs"][0]["loss"] > 0.3


@pytest.fixture(scope="module")
def other_labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    (folder / "train.tsv").write_text("aspirin\tB-Gene\nof\tO\n")
    return save_checkpoint(folder / "model", folder, num_hidden_layers=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "regression"}, r"^teacher must be left out for regression"),
        ({"teacher": None}, r"^unlabelled must be left out without a teacher"),
        ({"columns": ("sentence", "other", "label")}, r"^unlabelled must be left out .*for pairs of texts"),
        ({"teacher_weight": 1.1}, r"^teacher_weight must be from 0 to 1. Received: 1.1"),
        ({"temperature": 0.0}, r"^temperature must be positive. Received: 0.0"),
        ({"unlabelled": ("none.txt",)}, r"must be existing text files .* Received: none.txt"),
        ({"teacher": "no/such/folder"}, r"must be such a folder"),
        ({"max_length": 64}, r"max_length must be at most the model's max_position_embeddings=32. Received: 64"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(changes, message, corpus, student, teacher, texts, tmp_path):
    run = settings_of(corpus, model=str(student), teacher=str(teacher), unlabelled=(str(texts),))
    with pytest.raises(InputError, match=message):
        finetune(dataclasses.replace(run, **changes), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_teachers_that_do_not_fit_are_refused(corpus, student, bert, teacher, other_labels, texts, tmp_path):
    run = settings_of(corpus, model=str(student))

    def refused(message, **changes):
        with pytest.raises(InputError, match=message):
            finetune(dataclasses.replace(run, **changes), tmp_path / "model")

    refused(r"must know the labels O, B-Disease, .* Received: O, B-Gene, I-Gene", teacher=str(other_labels))
    stranger = save_checkpoint(tmp_path / "stranger", corpus, num_hidden_layers=1)
    refused(r"must have the same tokenizer. Received: .*stranger", teacher=str(stranger))
    encoder = BertModel(BertForTokenClassification.from_pretrained(teacher).config)
    encoder.tokenizer = WordPieceTokenizer.from_pretrained(teacher)
    encoder.save_pretrained(tmp_path / "encoder")
    refused(r"must be fine-tuned: it lacks a head for labels. Received: .*encoder", teacher=str(tmp_path / "encoder"))
    refused(r"Only a MiniALBERT has adapters to train. Received: .*bert, a BERT", model=str(bert), adapters_only=True)
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"aspirin\n\0\1\2\n")
    with pytest.raises(DataError, match=r"binary\.txt:2: .* this file is binary"):
        finetune(dataclasses.replace(run, teacher=str(teacher), unlabelled=(str(binary),)), tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary.txt", "encoder", "stranger"]


def test_berts_are_no_classifiers_of_texts(bert, tmp_path):
    data = write_table(tmp_path / "data", "classification", {"train": 4})
    run = settings_of(data, task="classification")
    for changes in ({"model": str(bert)}, {"model": "scratch", "teacher": str(bert)}):
        with pytest.raises(InputError, match=r"classified by MiniALBERTs, not by BERTs. Received: .*bert"):
            finetune(dataclasses.replace(run, **changes), tmp_path / "model")


def test_kill_9_in_task_distillation_costs_nothing_that_was_saved(student, teacher, texts, graphs, tmp_path):
    data = write_ner(tmp_path / "data", {"train": 24})
    taught = {"model": str(student), "teacher": str(teacher), "unlabelled": (str(texts),)}
    run = settings_of(data, **taught, epochs=4, batch_size=4)
    expected = finetune(run, tmp_path / "whole")
    command = [sys.executable, "-m", "minialbert_tf.cli", "finetune", "--data", str(data), "--model", str(student)]
    command += ["--teacher", str(teacher), "--unlabelled", str(texts), "--epochs", "4", "--batch-size", "4"]
    command += ["--vocab-size", "100", "--size", "tiny", "--max-length", "32", "--learning-rate", "0.01"]
    command += ["--output", str(tmp_path / "model"), "--save-seconds", "0"]
    state = tmp_path / "model.training" / "state.npz"

    def reached():
        if not state.is_file():
            return 0
        with np.load(state) as saved:
            return json.loads(str(saved["state"]))[0]

    moment = random.randint(1, 15)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and reached() < moment:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.05))  # anywhere in a batch, a save, an evaluation
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert moment <= reached() < 44

    results = finetune(run, tmp_path / "model")
    losses = [[epoch["loss"] for epoch in each["epochs"]] for each in (results, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, atol=1e-5, err_msg=name)


def test_other_raw_text_is_another_run(student, teacher, corpus, tmp_path, monkeypatch):
    raw = write_texts(tmp_path / "raw.txt", 4)
    run = settings_of(corpus, model=str(student), teacher=str(teacher), unlabelled=(str(raw),))

    def killed(trainer):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning.Trainer, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(run, tmp_path / "model")
    raw.write_text(raw.read_text() + "more\n")
    with pytest.raises(InputError, match=r"same settings.*data_sha256"):
        finetune(run, tmp_path / "model")


def test_a_teacher_judges_only_the_rows_of_its_worker():
    judged = []

    def teacher(inputs, training):
        judged.append(inputs["input_ids"].shape[0])
        return tf.zeros((*inputs["input_ids"].shape, CLASSES))

    examples = [Example([2, *range(5, 5 + number), 3], [-100, *[1] * number, -100]) for number in range(1, 8)]
    shares = [TaughtExamples(examples, 4, teacher=teacher).dataset(0, shard=Shard(2, first)) for first in range(2)]
    counted = [sum(int((targets[..., 0] != IGNORED_LABEL).numpy().sum()) for _, targets in share) for share in shares]
    assert judged == [1, 1, 2, 2, 2, 2]  # the ones to learn the shapes from
    assert sum(counted) == sum(range(1, 8)) and all(counted)

"""`minialbert distill` and bad input to it: one line of error, nothing written."""

import gzip
import json
import shutil

import pytest
from command_checks import assert_refused, tree
from tiny_runs import change_config, save_bert, write_texts

from minialbert_tf.data import corpus
from minialbert_tf.distillation import run as distillation_run
from minialbert_tf.models import MiniAlbertModel
from minialbert_tf.teacher import BertModel
from minialbert_tf.tokenization import WordPieceTokenizer

TINY = ("--window", "16", "--stride", "8", "--batch-size", "4", "--steps", "2", "--warmup-steps", "0")
TINY = (*TINY, "--embedding-size", "8", "--reduction-factor", "4", "--recursions", "2")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.txt")


@pytest.fixture(scope="module")
def teacher(texts, tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("teacher") / "bert", texts)


@pytest.fixture(autouse=True)
def little_text(monkeypatch):
    monkeypatch.setattr(distillation_run, "_SAMPLED_TOKENS", 300)


def test_it_writes_a_student_and_prints_json(teacher, texts, folder, run, eager, recwarn):
    (folder / "texts.gz").write_bytes(gzip.compress(texts.read_bytes()))
    command = ("distill", "--teacher", teacher, "--text", "*.gz", *TINY, "--no-adapters", "--mlm-weight", "0")
    code, out, err = run(*command, "--layer-map", "1", "3", "--output-weight", "0", "--mask-rate", "0", "--json")
    assert code == 0, err
    results = json.loads(out)
    assert results["losses"].keys() == {"loss", "embedding_loss", "attention_loss", "hidden_loss"}
    assert results["settings"]["layer_map"] == [1, 3]
    assert {"log.jsonl", "losses.png"} < {path.name for path in (folder / "student" / "logs").iterdir()}
    student = MiniAlbertModel.from_pretrained("student")
    assert (student.config.embedding_size, student.config.use_adapter) == (8, False)
    assert "by layers 1, 3; losses: embedding, attention, hidden; 2 steps of 4 windows" in err
    assert not [warning for warning in recwarn if "shuffle" in str(warning.message)]
    assert_refused(run(*command), "distill", "use force (--force) to replace it")


BAD_TEXTS = {
    "empty": (b"", "A corpus must hold some text. Received: bad.txt"),
    "blank": (b"\n  \n\n", "A corpus must hold some text. Received: bad.txt"),
    "nothing that the tokenizer keeps": ("\u200b\n".encode(), "A corpus must hold some text. Received: bad.txt"),
    "one giant line": (b"word " * 300, "bad.txt:1: A document must have at most 1,000 bytes. Received: more"),
    "one giant word": (b"x" * 900, "A corpus must have words that the vocabulary knows. Received: bad.txt"),
    "binary": (bytes(range(256)), "bad.txt:1: A corpus must be text, and this file is binary. Received: a NUL byte"),
    "binary later": (b"aspirin\n\0", "bad.txt:2: A corpus must be text, and this file is binary"),
    "not UTF-8": (b"aspirin\n\xe9\n", "bad.txt:2: The text must be UTF-8. Received: byte 0xe9"),
    "half a gzip": (gzip.compress(b"aspirin\n" * 99)[:-12], "bad.txt:"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_texts(name, teacher, folder, run, monkeypatch):
    content, message = BAD_TEXTS[name]
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 1000)
    (folder / "bad.txt").write_bytes(content)
    for start in ("teacher", "random"):
        command = ("distill", "--teacher", teacher, "--text", "bad.txt", *TINY, "--start", start)
        assert_refused(run(*command), "distill", message)
    assert [path.name for path in folder.iterdir()] == ["bad.txt"]


def test_a_bad_file_behind_good_ones_shows_itself_before_the_work(teacher, texts, folder, run, monkeypatch):
    (folder / "z.txt").write_bytes(b"\x7fELF\0\0")
    monkeypatch.setattr(distillation_run, "load_teacher", pytest.fail)
    result = run("distill", "--teacher", teacher, "--text", texts, "z.txt", *TINY)
    assert_refused(result, "distill", "z.txt:1: A corpus must be text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--text", "none.txt"), "must be existing text files or a pattern that matches some. Received: none.txt"),
        (("--teacher", "no/such/folder"), "must be such a folder"),
        (("--recursions", "3"), "must divide the teacher's layers, unless a layer map is given"),
        (("--layer-map", "1", "5"), "from 1 to 4 for each of 2 recursions. Received: 1, 5"),
        (("--layer-map", "0", "4"), "from 1 to 4 for each of 2 recursions. Received: 0, 4"),
        (("--layer-map", "1", "2", "3"), "for each of 2 recursions. Received: 1, 2, 3"),
        (("--start-layer", "5"), "The layer to start from must be from 1 to 4, the teacher's. Received: 5"),
        (("--hidden-size", "24"), "must have the teacher's hidden_size. Received: student 24, teacher 16"),
        (("--hidden-size", "15", "--start", "random"), "num_attention_heads must divide hidden_size"),
        (("--embedding-size", "17"), "embedding_size must not exceed hidden_size=16. Received: 17"),
        (("--embedding-size", "0"), "embedding_size"),
        (("--recursions", "0"), "num_hidden_layers"),
        (("--reduction-factor", "0"), "reduction_factor"),
        (("--reduction-factor", "17"), "reduction_factor must not exceed hidden_size"),
        (("--dropout", "1.5"), "hidden_dropout_prob"),
        (("--window", "64"), "window must be at most the teacher's max_position_embeddings=32. Received: 64"),
        (("--window", "7"), "The windows' length must be at least 8. Received: 7"),
        (("--stride", "0"), "The windows' stride must be from 1 to the length less 2. Received: 0"),
        (("--windows-per-document", "0"), "The windows' per_document must be at least 1. Received: 0"),
        (("--mask-rate", "1"), "The share of masked pieces must be from 0 to less than 1. Received: 1.0"),
        (("--mask-rate", "0"), "mask_rate must be above 0, unless the weights of the mlm and output losses are 0"),
        (("--mlm-weight", "-1"), "The weight of a loss must be 0 or more. Received: mlm=-1.0"),
        (("--hidden-weight", "nan"), "The weight of a loss must be 0 or more. Received: hidden=nan"),
        (
            [word for term in ("mlm", "attention", "hidden", "output") for word in (f"--{term}-weight", "0")],
            "One loss that both models have must have a weight above 0",
        ),
        (("--temperature", "0"), "temperature must be positive. Received: 0.0"),
        (("--steps", "0"), "steps must be at least 1. Received: 0"),
        (("--warmup-steps", "2"), "warmup_steps must be from 0 to less than steps=2. Received: 2"),
        (("--batch-size", "0"), "batch_size must be at least 1. Received: 0"),
        (("--accumulation", "3"), "accumulation must be a divisor of batch_size=4. Received: 3"),
        (("--learning-rate", "0"), "learning_rate must be positive. Received: 0.0"),
        (("--weight-decay", "-1"), "weight_decay must be 0 or more. Received: -1.0"),
        (("--clip-norm", "0"), "clip_norm must be positive. Received: 0.0"),
        (("--seed", "-1"), "seed must be in [0, 2^32). Received: -1"),
        (("--output", ".."), "The output must have a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, (tuple, list)) else "",
)
def test_bad_options(options, message, teacher, texts, folder, run):
    command = ["distill", "--teacher", teacher, "--text", texts, *TINY, *options]
    assert_refused(run(*command), "distill", message)
    assert list(folder.iterdir()) == []


def test_students_that_do_not_go_with_the_teacher(teacher, texts, folder, run, eager):
    command = ("distill", "--teacher", teacher, "--text", texts, *TINY)
    assert run(*command, "--output", "student")[0] == 0
    before = tree(folder)

    def refused(message, student="changed", options=()):
        assert_refused(run(*command, "--student", student, "--output", "next", *options), "distill", message)

    shutil.copytree("student", "changed")
    change_config(folder / "changed", num_attention_heads=4)
    refused("must have equally many attention heads, unless the weight of the attention loss is 0")
    change_config(folder / "changed", num_attention_heads=2, num_hidden_layers=3)
    refused("does not fit MiniAlbertForMaskedLM: missing")
    change_config(folder / "changed", num_hidden_layers=2)
    WordPieceTokenizer.train(["other words than those"], 40, lowercase=True).save(folder / "changed")
    refused("Student and teacher must use the same vocabulary")
    refused("window must be at most the teacher's max_position_embeddings=32", "student", ("--window", "48"))
    refused("must be such a folder", "no/such/folder")
    shutil.rmtree("changed")
    assert tree(folder) == before


def test_teachers_that_are_none(teacher, texts, folder, run):
    shutil.copytree(teacher, "bare")
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / "bare" / name).unlink()
    command = ("distill", "--text", texts, *TINY)
    assert_refused(run(*command, "--teacher", "bare"), "distill", "must hold its tokenizer (vocab.txt). Received: bare")
    BertModel.from_pretrained(teacher).save_pretrained("wrong")
    change_config(folder / "wrong", embedding_size=8)
    assert_refused(run(*command, "--teacher", "wrong"), "distill", "must not give embedding_size; this is a MiniALBERT")
    assert sorted(path.name for path in folder.iterdir()) == ["bare", "wrong"]


def test_the_folder_of_another_run(teacher, texts, folder, run, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(distillation_run, "_train", interrupt)
    command = ("distill", "--teacher", teacher, "--text", texts, *TINY)
    assert run(*command)[0] == 130
    assert [path.name for path in folder.iterdir()] == ["student.training"]
    result = run(*command, "--learning-rate", "1e-3", "--mlm-weight", "2")
    assert_refused(result, "distill", "learning_rate: 0.0005 then, 0.001 now; weights.mlm: 1.0 then, 2.0 now")
    (folder / "other.training").mkdir()
    (folder / "other.training" / "mine").write_text("mine")
    assert_refused(run(*command, "--output", "other"), "distill", "must be free or of a run; move what is there")

import dataclasses
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import Bundle, Card, read_bundle, write_bundle
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 5
LABELS = ("O", "B-Disease", "I-Disease", "B-Maladie génétique")
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##b", "é", "\u2028"], lowercase=False, strip_accents=True)
CONFIG = {"vocab_size": 12, "hidden_size": 48, "id2label": {"0": "O"}}


def write(path, **changes):
    arguments = {
        "flatbuffer": FLATBUFFER,
        "task": "token-classification",
        "labels": LABELS,
        "sequence_lengths": (64, 128),
        "quantization": "int8",
        "tokenizer": TOKENIZER,
        "config": CONFIG,
    }
    return write_bundle(path, **{**arguments, **changes})


def contents(bundle: Bundle):
    tokenizer = bundle.tokenizer
    settings = (tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars)
    return bundle.card, bundle.config, tokenizer.vocabulary, settings


def rewrite(path, changes=None, *, flatbuffer=FLATBUFFER, compression=zipfile.ZIP_STORED):
    """Writes the archive of a good file again with some of its texts changed, or left out if None."""
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    texts |= changes or {}
    buffer = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(buffer, "a", compression) as archive:
        for name, text in texts.items():
            if text is not None:
                archive.writestr(name, text)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "ner.tflite")
    return tmp_path / "ner.tflite"


def test_what_is_written_is_read(path):
    bundle = read_bundle(path)
    sha256 = hashlib.sha256(FLATBUFFER).hexdigest()
    card = Card("token-classification", LABELS, (64, 128), "int8", len(FLATBUFFER), sha256)
    assert contents(bundle) == (card, CONFIG, TOKENIZER.vocabulary, (False, True, True))
    assert bundle.path == path
    assert path.read_bytes().startswith(FLATBUFFER)


def test_the_same_model_gives_the_same_bytes(path, tmp_path):
    os.environ["TZ"], before = "Asia/Tokyo", os.environ.get("TZ")
    try:
        assert write(tmp_path / "again.tflite") == read_bundle(path).card
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert [entry.filename for entry in archive.infolist()] == [
            "card.json",
            "vocab.txt",
            "labels.txt",
            "config.json",
        ]
        assert all(stat.S_IMODE(entry.external_attr >> 16) == 0o644 for entry in archive.infolist())


def test_an_existing_file_is_kept_unless_forced(path):
    before = path.read_bytes()
    with pytest.raises(InputError, match="must not exist"):
        write(path, quantization="float32")
    assert path.read_bytes() == before
    write(path, quantization="float32", force=True)
    assert read_bundle(path).card.quantization == "float32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flatbuffer": b"no model"}, "must be a TFLite flatbuffer"),
        ({"task": "translation"}, "task must be one of"),
        ({"labels": []}, "labels must be"),
        ({"labels": ["O", "O"]}, "labels must be"),
        ({"labels": ["O", "B-\n"]}, "labels must be"),
        ({"labels": ["O", 3]}, "labels must be"),
        ({"sequence_lengths": ()}, "sequence_lengths must be positive"),
        ({"sequence_lengths": (64, 0)}, "sequence_lengths must be positive"),
        ({"sequence_lengths": (128, 64)}, "sequence_lengths must ascend"),
        ({"sequence_lengths": (64, 64)}, "sequence_lengths must ascend"),
        ({"quantization": 8}, "quantization of card.json must be str"),
        ({"config": {}}, "vocab_size"),
        ({"config": {"vocab_size": 8}}, "vocab_size.*Received: 8 for 9 pieces"),
    ],
)
def test_contradictory_arguments_write_nothing(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "ner.tflite", **changes)
    assert not list(tmp_path.iterdir())


def test_damage_anywhere_is_an_error_or_harmless(path):
    good = path.read_bytes()
    expected = contents(read_bundle(path))
    generator = random.Random(0)
    refused = 0
    for position in [*range(0, len(FLATBUFFER), 97), *range(len(FLATBUFFER), len(good))]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            assert contents(read_bundle(path)) == expected, position  # a file date, say
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
            continue
        assert position >= len(FLATBUFFER)
    assert refused > (len(good) - len(FLATBUFFER)) / 2


def test_truncation_anywhere_is_an_error(path):
    good = path.read_bytes()
    for size in [0, 3, 8, *range(10, len(good), 41), len(good) - 1]:
        path.write_bytes(good[:size])
        with pytest.raises(InputError):
            read_bundle(path)


def test_a_model_without_card_says_how_to_get_one(path):
    path.write_bytes(FLATBUFFER)
    with pytest.raises(InputError, match="minialbert export tflite"):
        read_bundle(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"must be a \.tflite file"):
        read_bundle(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.tflite"):
        with pytest.raises(InputError, match=r"must be a \.tflite file"):
            read_bundle(path)


def card_with(path, change):
    with zipfile.ZipFile(path) as archive:
        card = json.loads(archive.read("card.json"))
    change(card)
    return json.dumps(card).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(format="other"), "format minialbert-tflite version 1.*Received: 'other'"),
        (lambda card: card.update(version=2), "Received: 'minialbert-tflite' version 2"),
        (lambda card: card.pop("version"), "version None"),
        (lambda card: card.update(author="me"), r"unknown: \['author'\]"),
        (lambda card: card.pop("labels"), r"Missing: \['labels'\]"),
        (lambda card: card.update(labels="O"), "labels of card.json must be list"),
        (lambda card: card["tokenizer"].update(lowercase=0), "tokenizer.lowercase of card.json must be bool"),
        (lambda card: card["tokenizer"].update(cls_id=True), "tokenizer.cls_id of card.json must be int"),
        (lambda card: card["tokenizer"].update(cls_id=3), "vocab.txt must fit the tokenizer"),
        (lambda card: card["tokenizer"].update(vocabulary_size=10), "vocab.txt must fit the tokenizer"),
        (lambda card: card["tokenizer"].pop("mask_id"), "exactly its keys"),
        (lambda card: card["model"].update(bytes=len(FLATBUFFER) - 1), "size and SHA-256"),
        (lambda card: card["model"].update(bytes=-1), "size and SHA-256"),
        (lambda card: card["model"].update(sha256="0" * 64), "size and SHA-256"),
        (lambda card: card.update(sequence_lengths=[64, 128.0]), "sequence_lengths must be positive whole numbers"),
        (lambda card: card.update(labels=["O", "B-Disease", "I-Disease"]), "labels.txt must list the labels"),
        (lambda card: card.update(task="chat"), "task must be one of"),
    ],
)
def test_cards_that_differ_from_the_format_are_refused(path, change, message):
    rewrite(path, {"card.json": card_with(path, lambda card: None)})
    read_bundle(path)
    rewrite(path, {"card.json": card_with(path, change)})
    with pytest.raises(InputError, match=message):
        read_bundle(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("card.json", b"{", "card.json must be valid JSON"),
        ("card.json", b"[]", "card.json must hold a JSON object"),
        ("card.json", b"[" * 100_000, "card.json must be valid JSON"),
        ("card.json", b"\xff", "carry its card"),
        ("card.json", None, "card.json is missing"),
        ("vocab.txt", None, "vocab.txt is missing"),
        ("vocab.txt", b"[PAD]\n[PAD]\n", "must differ"),
        ("labels.txt", b"O\n", "labels.txt must list"),
        ("config.json", b'{"vocab_size": 3}', "vocab_size"),
        ("vocab.txt", b"a" * (16 * 2**20 + 1), "vocab.txt is larger"),
    ],
)
def test_archives_that_differ_from_the_format_are_refused(path, name, text, message):
    rewrite(path, {name: text}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=message):
        read_bundle(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "O\n")
    with pytest.raises(InputError, match=r"labels\.txt is there twice"):
        read_bundle(path)


def test_other_names_are_never_used(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.txt", "x")
    before = set(path.parent.iterdir())
    assert contents(read_bundle(path))[0].labels == LABELS
    assert set(path.parent.iterdir()) == before


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(path, compression):
    rewrite(path, compression=compression)
    with pytest.raises(InputError, match="compressed in an unknown way"):
        read_bundle(path)


BOMB = """
import resource, sys
from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_bundle(sys.argv[1])
except InputError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


def test_a_zip_bomb_that_lies_about_its_size_does_not_unpack(path):
    size = 300 * 2**20
    rewrite(path, {"vocab.txt": bytes(size)}, compression=zipfile.ZIP_DEFLATED)
    honest = path.read_bytes()
    path.write_bytes(honest.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    assert path.read_bytes() != honest
    command = [sys.executable, "-c", BOMB, str(path)]
    output = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=True, text=True).stdout
    megabytes, _, message = output.partition(" ")
    assert int(megabytes) < 30
    assert "carry its card" in message


def test_cards_are_values():
    card = Card("token-classification", LABELS, (64,), "int8", 1, "")
    assert dataclasses.replace(card) == card and hash(card)


def test_tensorflow_is_not_imported():
    code = "import minialbert_tf.export.bundle, sys; print('tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "False\n"

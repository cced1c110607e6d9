"""A file that was damaged gives a clear error or right answers, and never ends the process."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.tagger import Tagger

ROOT = Path(__file__).parents[2]
TEXT = "Selegiline-induced postural hypotension in Parkinson's disease."
# In a process of its own, because what is tested is that it survives. It reports every outcome.
TAG_DAMAGED = """
import sys
from pathlib import Path
from minialbert_tf.errors import InputError
from minialbert_tf.tagger import Tagger

path, text, kind, step = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
good = path.read_bytes()
expected = Tagger.from_tflite(path)(text)
damaged = path.with_name("damaged.tflite")
counts = {"right": 0, "refused": 0, "wrong": 0}
for position in range(step // 2, len(good), step):
    flipped = good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :]
    damaged.write_bytes(flipped if kind == "flip" else good[:position])
    try:
        with Tagger.from_tflite(damaged) as tagger:
            counts["right" if tagger(text) == expected else "wrong"] += 1
    except InputError as error:
        counts["refused"] += str(error).count("\\n") == 0
print(*counts.values(), len(range(step // 2, len(good), step)))
"""


@pytest.fixture
def path(tiny_tagger_file, tmp_path):
    copy = tmp_path / "ner.tflite"
    copy.write_bytes(tiny_tagger_file.read_bytes())
    return copy


@pytest.mark.parametrize(("kind", "step"), [("flip", 1000), ("truncate", 1000), ("flip", 1009)])
def test_flipped_bytes_and_truncations(path, kind, step):
    command = [sys.executable, "-c", TAG_DAMAGED, str(path), TEXT, kind, str(step)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    right, refused, wrong, tried = map(int, result.stdout.split())
    assert wrong == 0 and right + refused == tried > 50
    assert refused > 0.9 * tried


def repack(path, change):
    """Writes the file's archive again after `change` of its texts by name."""
    size = read_bundle(path).card.model_bytes
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
    change(texts)
    content = io.BytesIO(path.read_bytes()[:size])
    with zipfile.ZipFile(content, "a") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    path.write_bytes(content.getvalue())


def test_a_vocabulary_that_is_missing_or_another(path):
    repack(path, lambda texts: None)
    assert isinstance(Tagger.from_tflite(path)(TEXT), list)
    repack(path, lambda texts: texts.update({"vocab.txt": texts["vocab.txt"] + b"new\n"}))
    with pytest.raises(InputError, match=r"vocab\.txt must fit the tokenizer"):
        Tagger.from_tflite(path)


def test_a_missing_vocabulary(path):
    repack(path, lambda texts: texts.pop("vocab.txt"))
    with pytest.raises(InputError, match=r"vocab\.txt is missing"):
        Tagger.from_tflite(path)


def test_the_card_of_another_model(path, tiny_model, tmp_path):
    from minialbert_tf.export.bundle import write_bundle

    write_bundle(tmp_path / "other.tflite", **tiny_model.arguments())
    with zipfile.ZipFile(tmp_path / "other.tflite") as archive:
        card = archive.read("card.json")
    repack(path, lambda texts: texts.update({"card.json": card}))
    with pytest.raises(InputError, match="SHA-256 in its card"):
        Tagger.from_tflite(path)

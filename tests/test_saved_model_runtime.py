import json
import shutil

import numpy as np
import pytest
from serving_export import LENGTH, NER_LABELS, TEXTS, brief, ner_export, tagger, text_export

from minialbert_tf.errors import InputError
from minialbert_tf.tagger import Tagger

pytest.importorskip("tensorflow_text")


@pytest.fixture(scope="module")
def loaded():
    with Tagger.from_saved_model(ner_export()) as loaded:
        yield loaded


def test_tags_as_the_model_does(loaded):
    texts = [*TEXTS, " ".join(TEXTS), ""]
    for found, expected in zip(loaded(texts), tagger()(texts), strict=True):
        assert brief(found) == brief(expected)
        np.testing.assert_allclose([e.score for e in found], [e.score for e in expected], atol=1e-5)
    assert loaded.labels == NER_LABELS
    assert loaded.tag_words([["Aspirin", "helps"]]) == tagger().tag_words([["Aspirin", "helps"]])


def test_the_newest_version_of_a_name(tmp_path):
    for version in ("2", "10"):
        (tmp_path / version / "assets").mkdir(parents=True)
    (tmp_path / "serve").mkdir()
    with pytest.raises(InputError, match="minialbert export saved-model"):
        Tagger.from_saved_model(tmp_path)
    shutil.rmtree(tmp_path / "10")
    shutil.copytree(ner_export(), tmp_path / "10")
    assert brief(Tagger.from_saved_model(tmp_path)(TEXTS[2])) == brief(tagger()(TEXTS[2]))


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(ner_export(), tmp_path / "1")


def test_folders_that_are_none_of_ours(tmp_path, copy):
    (tmp_path / "file").touch()
    (copy / "assets" / "labels.json").unlink()
    for folder in (tmp_path / "missing", tmp_path / "file", copy, tmp_path):
        with pytest.raises(InputError, match="must be a SavedModel of `minialbert export saved-model`"):
            Tagger.from_saved_model(folder)


def test_a_model_for_texts_is_no_tagger():
    with pytest.raises(InputError, match="must be IOB2"):
        Tagger.from_saved_model(text_export())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("saved_model.pb", b"damaged", "TensorFlow must be able to load"),
        ("variables/variables.index", b"", "TensorFlow must be able to load"),
        ("assets/config.json", b"{", "must be JSON"),
        ("assets/vocab.txt", b"\xff", "must be UTF-8"),
        ("assets/labels.json", b"[1]", "must list the labels"),
        ("assets/labels.json", json.dumps({"labels": ["O", 3]}).encode(), "must list the labels"),
    ],
)
def test_damage_is_one_line(copy, name, content, message):
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        Tagger.from_saved_model(copy)
    assert "\n" not in str(caught.value)


def test_sequences_up_to_the_models_length(loaded):
    runtime = loaded._runtime
    assert runtime.max_length == LENGTH
    sequences = [[2, *[7] * length, 3] for length in (0, 1, LENGTH - 2)] * 15
    for sequence, logits in zip(sequences, runtime.predict(sequences), strict=True):
        assert logits.shape == (len(sequence), len(NER_LABELS)) and logits.dtype == np.float32
    assert runtime.predict([]) == []

import numpy as np
import pytest

import minialbert_tf as ma
from minialbert_tf.data.conll import Sentence
from minialbert_tf.export.bundle import read_bundle, write_bundle
from minialbert_tf.export.conversion import Checks, Conversion
from minialbert_tf.export.flatbuffer import read_model, write_model
from minialbert_tf.export.probes import built_in_texts, probes_of
from minialbert_tf.export.report import TOLERANCE
from minialbert_tf.export.verify import measure
from minialbert_tf.tagger import Tagger

LENGTHS = (16, 32)


@pytest.fixture(scope="module")
def checks(tiny_tagger, tiny_tagger_file):
    texts = built_in_texts("test")
    words = [text.split() for text in texts]
    with Tagger.from_tflite(tiny_tagger_file) as tagger:
        sentences = [Sentence(tuple(w), tuple(t)) for w, t in zip(words, tagger.tag_words(words), strict=True)]
    return Checks(probes_of(texts, tiny_tagger.tokenizer, LENGTHS, per_word=True), tuple(sentences))


@pytest.fixture
def conversion(tiny_tagger):
    return Conversion("token-classification", "none", LENGTHS, tiny_tagger.config.to_dict())


@pytest.fixture
def damaged(tiny_tagger, tiny_tagger_file, tmp_path):
    """The file with a block that was damaged before its card was written."""
    bundle = read_bundle(tiny_tagger_file)
    content = read_model(tiny_tagger_file.read_bytes()[: bundle.card.model_bytes])
    config = tiny_tagger.config
    for tensor in content.subgraphs[0].tensors:
        if tuple(tensor.shape) == (config.intermediate_size, config.hidden_size):
            data = content.buffers[tensor.buffer].data
            content.buffers[tensor.buffer].data = (-data.view(np.float32)).view(np.uint8)
            break
    card = bundle.card
    facts = {"task": card.task, "labels": card.labels, "sequence_lengths": LENGTHS, "quantization": "none"}
    path = tmp_path / "damaged.tflite"
    write_bundle(path, write_model(content), **facts, tokenizer=bundle.tokenizer, config=bundle.config)
    return path


def test_a_file_that_is_right(tiny_tagger, tiny_tagger_file, conversion, checks):
    measured = measure(tiny_tagger, conversion, checks, tiny_tagger_file, tiny_tagger_file)
    assert [each.length for each in measured.differences] == [16, 32]
    assert all(0 < each.floats == each.quantized < TOLERANCE for each in measured.differences)
    assert measured.agreement.same == 1
    assert measured.agreement.decisions == sum(len(probe.decided) for probe in checks.probes) > 500
    assert (measured.f1.floats, measured.f1.quantized, measured.f1.sentences) == (1, 1, len(checks.sentences))
    assert measured.weights.surplus == ()


def test_a_file_that_differs_from_the_one_in_floats(tiny_tagger, tiny_tagger_file, damaged, conversion, checks):
    measured = measure(tiny_tagger, conversion, checks, tiny_tagger_file, damaged)
    assert all(each.floats < TOLERANCE < 100 * TOLERANCE < each.quantized for each in measured.differences)
    assert measured.agreement.same < 0.95
    assert measured.f1.quantized < 0.95 < measured.f1.floats


def test_a_model_that_differs_from_both(tiny_tagger, tiny_tagger_file, conversion, checks):
    other = ma.MiniAlbertForTokenClassification(tiny_tagger.config)
    measured = measure(other, conversion, checks, tiny_tagger_file, tiny_tagger_file)
    assert all(each.floats > 100 * TOLERANCE for each in measured.differences)


def test_without_labelled_sentences_there_is_no_f1(tiny_tagger, tiny_tagger_file, conversion, checks):
    checks = Checks(checks.probes)
    assert measure(tiny_tagger, conversion, checks, tiny_tagger_file, tiny_tagger_file).f1 is None

"""The sample corpus is what its README says."""

import itertools
import re
from pathlib import Path

import pytest

from minialbert_tf.data.conll import Sentence, read_ner_folder
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.ner import decode_spans

# Of the checkout: the file is not part of the installed package.
README = Path(__file__).resolve().parents[2] / "minialbert_tf" / "data" / "sample" / "README.md"


@pytest.fixture(scope="module")
def parts() -> dict[str, list[Sentence]]:
    return read_ner_folder(sample_folder())


def _readme_counts() -> dict[str, list[int]]:
    text = README.read_text(encoding="utf-8")
    return {part: [int(n) for n in row.split("|")] for part, row in re.findall(r"\| (\w+)\.tsv \|(.*)\|", text)}


def test_counts_are_those_of_the_readme(parts):
    counted = {}
    for part, sentences in parts.items():
        spans = [span.label for sentence in sentences for span in decode_spans(sentence.tags)]
        empty = sum(set(sentence.tags) == {"O"} for sentence in sentences)
        words = sum(len(sentence.words) for sentence in sentences)
        counted[part] = [len(sentences), empty, words, spans.count("Chemical"), spans.count("Disease")]
    assert counted == _readme_counts()
    assert list(counted) == ["train", "dev", "test"]


def test_files_are_iob2_as_they_stand(parts):
    for part, sentences in parts.items():
        lines = (sample_folder() / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
        tags = [line.split("\t")[1] for line in lines if line]
        assert tags == [tag for sentence in sentences for tag in sentence.tags]  # nothing needed conversion
        assert set(tags) == {"O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"}


def test_no_sentence_occurs_twice(parts):
    texts = [" ".join(sentence.words).lower() for sentences in parts.values() for sentence in sentences]
    assert len(texts) == len(set(texts))


def test_punctuation_is_split_as_bert_does(parts):
    words = {word for sentences in parts.values() for sentence in sentences for word in sentence.words}
    assert [word for word in words if len(word) > 1 and not word.isalnum()] == []


def test_most_but_not_all_entity_words_of_dev_and_test_are_known(parts):
    def entity_words(part: str) -> list[str]:
        return [
            word.lower()
            for sentence in parts[part]
            for word, tag in zip(sentence.words, sentence.tags, strict=True)
            if tag != "O" and word.isalnum()
        ]

    known = set(entity_words("train"))
    for part in ("dev", "test"):
        words = entity_words(part)
        assert 0.75 <= sum(word in known for word in words) / len(words) <= 0.80


def test_annotation_is_consistent(parts):
    """The same words are not a Chemical here and a Disease there, nor left out elsewhere."""
    sentences = list(itertools.chain.from_iterable(parts.values()))
    names: dict[tuple[str, ...], set[str]] = {}
    for sentence in sentences:
        for span in decode_spans(sentence.tags):
            name = tuple(word.lower() for word in sentence.words[span.start : span.end])
            names.setdefault(name, set()).add(span.label)
    assert [name for name, labels in names.items() if len(labels) > 1] == []
    longest = max(map(len, names))
    missed = []
    for sentence in sentences:
        lower = [word.lower() for word in sentence.words]
        for start, length in itertools.product(range(len(lower)), range(1, longest + 1)):
            if tuple(lower[start : start + length]) in names and set(sentence.tags[start : start + length]) == {"O"}:
                missed.append(" ".join(lower[start : start + length + 3]))
    assert missed == ["calcium channel blockers were"]  # a class of drugs

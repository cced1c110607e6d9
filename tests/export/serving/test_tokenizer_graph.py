import random
import unicodedata

import numpy as np
import pytest
from serving_export import TEXTS, VECTORS, tokenizer

tf = pytest.importorskip("tensorflow")
tensorflow_text = pytest.importorskip("tensorflow_text")

from minialbert_tf.errors import InputError  # noqa: E402
from minialbert_tf.export.serving.tokenizer_graph import GraphTokenizer  # noqa: E402
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer  # noqa: E402

LAST_SCRIPT = 0x3200  # below it stand the alphabets, marks and signs; above mostly ideographs
EDGES = [
    *("x" * 100, "x" * 101, "é" * 100, "é" * 101, "Щ" * 90, "Щ" * 101, "[UNK] [MASK] [SEP]", "a\u200bb\x00c\ufffdd"),
    *("\u0301", "a\u0301\u0327", " \t\n\r\u3000", "\ufeffa", "中文字", "한국어", "İstanbul ΑΣ ß", "😀a"),
]


def random_texts(count):
    generator = random.Random(0)

    def character():
        if generator.random() < 0.6:
            return generator.choice("abcdefghij XYZ .,-")
        code = generator.randrange(0x20, 0x110000 if generator.random() < 0.3 else LAST_SCRIPT)
        return "x" if 0xD800 <= code < 0xE000 else chr(code)

    return ["".join(character() for _ in range(generator.randrange(1, 60))) for _ in range(count)]


def expected(reference, text):
    """Returns the piece ids, and for each word its first piece, start and end."""
    pieces = reference.encode(text)
    words = {}
    for index, ((start, end), word) in enumerate(zip(pieces.offsets, pieces.word_ids, strict=True)):
        first, begin, _ = words.get(word, (index, start, end))
        words[word] = (first, begin, end)
    return pieces.ids, list(words.values())


def in_graph(graph, texts):
    function = tf.function(graph.__call__, [tf.TensorSpec([None], tf.string)])
    encoded = [text if isinstance(text, bytes) else text.encode() for text in texts]
    words = type(graph(tf.constant(["a"])))(*(value.numpy() for value in function(tf.constant(encoded, tf.string))))
    results, piece = [], 0
    borders = np.searchsorted(words.texts, np.arange(len(texts) + 1))
    for count, begin, end in zip(words.piece_counts, borders[:-1], borders[1:], strict=True):
        chosen = slice(begin, end)
        spans = zip(words.first_pieces[chosen] - piece, words.starts[chosen], words.ends[chosen], strict=True)
        results.append((words.piece_ids[piece : piece + count].tolist(), [tuple(map(int, span)) for span in spans]))
        piece += count
    return results


def in_canonical_order(text):
    return unicodedata.normalize("NFD", text) == "".join(unicodedata.normalize("NFD", c) for c in text)


def differing(name, texts):
    """Returns the texts that are tokenized otherwise, apart from the one known cause."""
    reference = tokenizer(name)
    results = in_graph(GraphTokenizer(reference), texts)
    pairs = [(text, result) for text, result in zip(texts, results, strict=True) if in_canonical_order(text)]
    assert len(pairs) > 0.9 * len(texts)
    return [text for text, result in pairs if result != expected(reference, text)]


@pytest.mark.parametrize("name", ["uncased", "cased_without_accents"])
def test_equals_the_tokenizer(name):
    assert differing(name, [*TEXTS, *EDGES, *random_texts(3000), ""]) == []


@pytest.mark.serving
@pytest.mark.parametrize("name", sorted(VECTORS["tokenizers"]))
def test_equals_the_tokenizer_for_every_character(name):
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert differing(name, [f"a{character}b" for character in characters] + random_texts(100_000)) == []


def test_equals_the_tokenizer_for_the_characters_of_all_alphabets():
    assert differing("uncased", [f"a{chr(code)}b" for code in range(LAST_SCRIPT)]) == []


def test_the_comparison_sees_a_different_tokenizer():
    graph = GraphTokenizer(tokenizer("cased_without_accents"))
    reference = tokenizer("uncased")
    assert in_graph(graph, ["Study"]) != [expected(reference, "Study")]


def test_marks_that_are_kept_in_another_order_than_the_canonical_are_the_one_known_difference():
    reference = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##\U0001d165", "##\U0001d16d"], lowercase=True)
    text = "a\U0001d16d\U0001d165"  # neither is stripped
    ids, words = expected(reference, text)
    assert in_graph(GraphTokenizer(reference), [text]) == [([ids[0], ids[2], ids[1]], words)]
    text = "a\u034a\u1b44"  # the first is stripped
    ids, words = expected(reference, text)
    ((found_ids, found_words),) = in_graph(GraphTokenizer(reference), [text])
    assert not in_canonical_order(text)
    assert found_ids == ids and found_words == [(0, 0, 3)] != words


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfeab", b"a\xf0\x9f\x98", b"\xed\xa0\x80x", b"\xc0\xaf b", b"\xf8\x88\x80z", b"\xe2\x82", b"ab\xff c"],
)
def test_invalid_utf8_counts_as_in_python(text):
    reference = tokenizer("uncased")
    assert in_graph(GraphTokenizer(reference), [text]) == [expected(reference, text.decode("utf-8", "replace"))]


def test_no_texts():
    assert in_graph(GraphTokenizer(tokenizer("uncased")), []) == []


def test_texts_do_not_run_into_each_other():
    texts = ["ab", "cd", "", "ef"]
    results = in_graph(GraphTokenizer(tokenizer("uncased")), texts)
    assert results == [expected(tokenizer("uncased"), text) for text in texts]


def test_tensorflow_text_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(InputError, match=r"pip install 'minialbert-tf\[serving\]'"):
        GraphTokenizer(tokenizer("uncased"))


def test_tables_are_small():
    graph = GraphTokenizer(tokenizer("uncased"))
    assert sum(np.asarray(table).nbytes for table in (graph._pages, graph._entries, graph._rules)) < 500_000

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer, Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace

from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer, as_tokenizer, read_vocabulary

VECTORS = json.loads((Path(__file__).parent / "fixtures" / "tokenizer_vectors.json").read_text(encoding="utf-8"))
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
VOCABULARY = [*SPECIAL_TOKENS, "a", "b", "##b", "-", "A"]


def from_vectors(name):
    settings = dict(VECTORS["tokenizers"][name])
    return WordPieceTokenizer(VECTORS["vocabularies"][settings.pop("vocabulary")], **settings)


def settings_of(tokenizer):
    names = ("vocabulary", "lowercase", "strip_accents", "tokenize_chinese_chars")
    return [getattr(tokenizer, name) for name in names]


@pytest.mark.parametrize("name", VECTORS["tokenizers"])
def test_vectors(name):
    tokenizer = from_vectors(name)
    for vector in VECTORS["vectors"]:
        pieces = tokenizer.encode(vector["text"])
        expected = vector[name]
        assert pieces.ids == expected["ids"], vector["text"]
        assert [list(offset) for offset in pieces.offsets] == expected["offsets"], vector["text"]
        assert pieces.word_ids == expected["words"], vector["text"]


def test_vectors_tell_the_settings_apart():
    names = list(VECTORS["tokenizers"])
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert any(vector[one]["offsets"] != vector[other]["offsets"] for vector in VECTORS["vectors"])
    assert any(1 in vector["cased"]["ids"] for vector in VECTORS["vectors"])  # [UNK] occurs


def test_batch_equals_single_texts():
    tokenizer = from_vectors("uncased")
    texts = [vector["text"] for vector in VECTORS["vectors"]]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("text", ["[SEP]", "x[MASK]y", "[CLS] [SEP] [PAD] [UNK] [MASK]"])
def test_special_tokens_in_the_text_are_text(text):
    tokenizer = from_vectors("cased")
    special = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id}
    assert special.isdisjoint(tokenizer.encode(text).ids)
    assert special.isdisjoint(tokenizer.encode_words(text.split()).ids)


def test_lone_surrogates_count_as_dropped_characters():
    tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=False)
    pieces = tokenizer.encode("a\ud800b \udfff a\udc00")
    assert pieces.ids == [5, 7, 5]
    assert pieces.offsets == [(0, 1), (2, 3), (6, 7)]
    assert tokenizer.encode_batch(["\ud800"])[0].ids == []
    assert tokenizer.encode_words(["\ud800", "a"]).words == [1]


def test_words_of_a_corpus():
    tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=False)
    pieces = tokenizer.encode_words(["ab-a", "\x00", "", "a\u200b", "\u3000", "abb"])
    assert pieces.ids == [5, 7, 8, 5, 5, 5, 7, 7]
    assert pieces.words == [0, 0, 0, 0, 3, 5, 5, 5]
    assert pieces.first_of_word == [True, False, False, False, True, True, False, False]
    assert pieces.first_of_token == [True, False, True, True, True, True, False, False]
    assert pieces.word_count == 6


@pytest.mark.parametrize("name", VECTORS["tokenizers"])
def test_words_have_the_pieces_of_the_text_in_their_own_bounds(name):
    tokenizer = from_vectors(name)
    for vector in VECTORS["vectors"]:
        words = vector["text"].split(" ")
        pieces = tokenizer.encode_words(words)
        whole = tokenizer.encode(vector["text"])
        assert pieces.ids == whole.ids
        starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
        for word, (start, end) in zip(pieces.words, whole.offsets, strict=True):
            assert starts[word] <= start <= end <= starts[word] + len(words[word])
        seen = [word for word, first in zip(pieces.words, pieces.first_of_word, strict=True) if first]
        assert seen == sorted(set(pieces.words))


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (VOCABULARY[1:], r"must contain .*Missing: \[PAD\]"),
        ([*VOCABULARY, "a"], "twice: 'a'"),
        ([*VOCABULARY, ""], "one line of text.*id 10"),
        ([*VOCABULARY, "x\ny"], "one line of text"),
        ([*VOCABULARY, "\ud800"], "one line of text"),
        ([*VOCABULARY, 7], "one line of text"),
    ],
)
def test_bad_vocabularies_are_refused(vocabulary, message):
    with pytest.raises(InputError, match=message):
        WordPieceTokenizer(vocabulary, lowercase=True)


def test_vocabulary_lines_end_only_at_line_feeds():
    assert read_vocabulary("a\r\nb\u2028c\n\x85\n") == ["a", "b\u2028c", "\x85"]
    assert read_vocabulary("a\nb") == ["a", "b"]


@pytest.mark.parametrize("name", VECTORS["tokenizers"])
@pytest.mark.parametrize("kept", [None, "tokenizer.json", "vocab.txt"])
def test_saved_tokenizer_is_read_back(tmp_path, name, kept):
    tokenizer = from_vectors(name)
    tokenizer.save(tmp_path)
    if kept == "tokenizer.json":
        (tmp_path / "tokenizer_config.json").unlink()
        (tmp_path / "vocab.txt").unlink()
    if kept == "vocab.txt":
        (tmp_path / "tokenizer.json").unlink()
    again = WordPieceTokenizer.from_pretrained(tmp_path)
    assert settings_of(again) == settings_of(tokenizer)
    assert again.encode("İstanbul [MASK]") == tokenizer.encode("İstanbul [MASK]")


def test_saving_again_gives_the_same_bytes(tmp_path):
    tokenizer = from_vectors("uncased")
    tokenizer.save(tmp_path)
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    tokenizer.save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == first
    assert set(first) == {"vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}


def test_vocabulary_alone_needs_its_casing(tmp_path):
    from_vectors("cased").save(tmp_path)
    with pytest.raises(InputError, match="state lowercase"):
        WordPieceTokenizer.from_pretrained(tmp_path / "vocab.txt")
    assert WordPieceTokenizer.from_pretrained(tmp_path / "vocab.txt", lowercase=True).lowercase
    assert not WordPieceTokenizer.from_pretrained(tmp_path / "tokenizer.json").lowercase


def test_config_goes_before_tokenizer_json_as_in_transformers(tmp_path):
    from_vectors("cased").save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": null}')
    assert WordPieceTokenizer.from_pretrained(tmp_path).lowercase
    assert not WordPieceTokenizer.from_pretrained(tmp_path, lowercase=False).lowercase


def bert_json(**changes):
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    definition = json.loads(tokenizer.to_str())
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            definition[part][name] = value
        else:
            definition[part] = value
    return definition


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__type": "BPE"}, "model.type must be 'WordPiece'.*'BPE'"),
        ({"model__continuing_subword_prefix": "@@"}, "continuing_subword_prefix"),
        ({"model__max_input_chars_per_word": 200}, "max_input_chars_per_word"),
        ({"model__vocab": {"[PAD]": 1}}, "number its pieces"),
        ({"model__vocab": {"[PAD]": [0]}}, "number its pieces"),
        ({"model": None}, "model.unk_token"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer.type"),
        ({"normalizer__lowercase": "yes"}, "true or false"),
        ({"normalizer__clean_text": False}, "clean_text"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer.type"),
        ({"added_tokens": [{"content": "<new>"}]}, "added tokens.*<new>"),
        ({"added_tokens": ["x"]}, "added tokens"),
    ],
)
def test_other_tokenizers_are_refused(tmp_path, changes, message):
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(bert_json()))
    assert WordPieceTokenizer.from_pretrained(file).vocabulary == VOCABULARY
    file.write_text(json.dumps(bert_json(**changes)))
    with pytest.raises(CheckpointError, match=message):
        WordPieceTokenizer.from_pretrained(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"model": 3}'])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        WordPieceTokenizer.from_pretrained(tmp_path)


def test_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="A tokenizer must be a folder or file"):
        WordPieceTokenizer.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere"):
        WordPieceTokenizer.from_pretrained(tmp_path / "nowhere")


def test_config_must_be_boolean(tmp_path):
    from_vectors("cased").save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "no"}')
    with pytest.raises(CheckpointError, match="do_lower_case must be true or false"):
        WordPieceTokenizer.from_pretrained(tmp_path)


def test_as_tokenizer_accepts_what_people_have(tmp_path):
    tokenizer = from_vectors("uncased")
    tokenizer.save(tmp_path)
    backend = BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=True, strip_accents=True)

    class FastTokenizer:
        backend_tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    assert as_tokenizer(tokenizer) is tokenizer
    for other in (tmp_path, str(tmp_path), FastTokenizer.backend_tokenizer, FastTokenizer(), backend._tokenizer):
        assert settings_of(as_tokenizer(other)) == settings_of(tokenizer)
    with pytest.raises(InputError, match="Received: dict"):
        as_tokenizer({})
    with pytest.raises(InputError, match=r"model\.type"):
        as_tokenizer(Tokenizer(BPE()))
    other = Tokenizer(WordPiece({}, unk_token="[UNK]"))
    other.pre_tokenizer = Whitespace()
    with pytest.raises(InputError, match=r"normalizer\.type"):
        as_tokenizer(other)


TRAIN = """
import sys
from minialbert_tf.tokenization import WordPieceTokenizer
texts = [line.replace("o", "\\ud800o") for line in open(sys.argv[1], encoding="utf-8")]
print(ascii(WordPieceTokenizer.train(texts, 700, True).vocabulary))
"""


def test_training_is_the_same_in_every_process():
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", TRAIN, str(root / "tests" / "fixtures" / "make_tokenizer_vectors.py")]
    runs = [subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(ast.literal_eval(runs[0])) == 700


def test_training():
    texts = ["The postural hypotension, the hypotension."] * 3 + ["Été"]
    tokenizer = WordPieceTokenizer.train(iter(texts), 200, lowercase=False)
    assert tokenizer.vocabulary[:5] == list(SPECIAL_TOKENS)
    assert "hypotension" in tokenizer.vocabulary
    assert "É" in tokenizer.vocabulary and "##." not in tokenizer.vocabulary
    assert tokenizer.unk_id not in tokenizer.encode(" ".join(texts)).ids
    assert "été" not in tokenizer.vocabulary and not tokenizer.lowercase
    with pytest.raises(InputError, match=r"vocab_size must be at least \d+.*Received: 10"):
        WordPieceTokenizer.train(texts, 10, lowercase=False)


@pytest.mark.parametrize("name", VECTORS["tokenizers"])
def test_transformers_reads_what_is_saved(tmp_path_factory, name):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp(name)
    tokenizer = from_vectors(name)
    tokenizer.save(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__.startswith("Bert")
    for vector in VECTORS["vectors"]:
        if not any(token in vector["text"] for token in SPECIAL_TOKENS):
            assert theirs(vector["text"])["input_ids"] == [
                tokenizer.cls_id,
                *tokenizer.encode(vector["text"]).ids,
                tokenizer.sep_id,
            ]
    assert theirs.mask_token_id == tokenizer.mask_id and theirs.pad_token_id == tokenizer.pad_id
    assert settings_of(as_tokenizer(theirs)) == settings_of(tokenizer)
    theirs.save_pretrained(folder / "theirs")
    assert settings_of(WordPieceTokenizer.from_pretrained(folder / "theirs")) == settings_of(tokenizer)


@pytest.mark.skipif(not (SHARED / "vocab").is_dir(), reason="needs ../shared")
def test_published_vocabularies_are_read():
    cased = WordPieceTokenizer.from_pretrained(SHARED / "vocab" / "bert-base-cased-vocab.txt", lowercase=False)
    assert len(cased.vocabulary) == 28996
    assert [cased.pad_id, cased.unk_id, cased.cls_id, cased.sep_id, cased.mask_id] == [0, 100, 101, 102, 103]
    uncased = WordPieceTokenizer.from_pretrained(SHARED / "vocab" / "bert-base-uncased-vocab.txt", lowercase=True)
    pieces = [uncased.vocabulary[piece] for piece in uncased.encode("Hypotension").ids]
    assert pieces == ["h", "##yp", "##ote", "##ns", "##ion"]


def test_neither_tensorflow_nor_transformers_is_imported():
    code = "import minialbert_tf.tokenization, sys; print({'tensorflow', 'transformers'} & set(sys.modules))"
    root = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True)
    assert result.stdout == "set()\n"

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.export.bundle import write_bundle
from minialbert_tf.ner import decode_spans
from minialbert_tf.tagger import Entity, Tagger
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

ROOT = Path(__file__).parents[1]
NAUGHTY = ROOT.parent / "shared" / "data" / "naughty-strings" / "blns.json"
VECTORS = json.loads((ROOT / "tests" / "fixtures" / "tokenizer_vectors.json").read_text(encoding="utf-8"))
LABELS = ["O", "B-Disease", "I-Disease", "B-Drug", "I-Drug"]
OUTSIDE, B_DISEASE, I_DISEASE, B_DRUG, I_DRUG = range(5)
TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "o", "d", "i", "r", "##x", "-", "."], lowercase=True)
OF_PIECE = {"o": OUTSIDE, "d": B_DISEASE, "i": I_DISEASE, "r": B_DRUG, "##x": I_DRUG, "-": I_DISEASE, ".": OUTSIDE}


class TableRuntime:
    """Labels each piece by its id: 4 for its label in `OF_PIECE`, 0 for the others."""

    def __init__(self, max_length=512):
        self.max_length = max_length
        self.calls: list[int] = []
        self.closed = False

    def predict(self, sequences):
        self.calls.append(len(sequences))
        return [self.logits(list(sequence)) for sequence in sequences]

    def logits(self, sequence):
        assert len(sequence) <= self.max_length
        assert sequence[0] == TOKENIZER.cls_id and sequence[-1] == TOKENIZER.sep_id
        logits = np.zeros((len(sequence), len(LABELS)), np.float32)
        for position, piece in enumerate(sequence):
            logits[position, OF_PIECE.get(TOKENIZER.vocabulary[piece], OUTSIDE)] = 4
        return logits

    def close(self):
        self.closed = True


class HashRuntime(TableRuntime):
    """Labels that look random but depend on the piece alone."""

    def logits(self, sequence):
        return np.stack([np.random.default_rng(piece).normal(size=5) for piece in sequence]).astype(np.float32)


def brief(entities):
    return [(entity.text, entity.label, entity.start, entity.end) for entity in entities]


@pytest.fixture
def tagger():
    return Tagger(TOKENIZER, LABELS, TableRuntime())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("o o", []),
        ("d", [("d", "Disease", 0, 1)]),
        ("d i o", [("d i", "Disease", 0, 3)]),
        ("d d", [("d", "Disease", 0, 1), ("d", "Disease", 2, 3)]),
        ("o i i", [("i i", "Disease", 2, 5)]),
        ("r i", [("r", "Drug", 0, 1), ("i", "Disease", 2, 3)]),
        ("d-i.", [("d-i", "Disease", 0, 3)]),
        ("rx ix", [("rx", "Drug", 0, 2), ("ix", "Disease", 3, 5)]),  # the first piece decides
        ("d\u200b\x00 \ufffd ï", [("d\u200b\x00 \ufffd ï", "Disease", 0, 7)]),
        ("😀 d\ud800x", [("d\ud800x", "Disease", 2, 5)]),
    ],
)
def test_entities(tagger, text, expected):
    assert brief(tagger(text)) == expected


def test_scores_are_means_of_the_probability_of_each_words_label(tagger):
    probability = np.exp(4) / (np.exp(4) + 4)
    assert tagger("o dx i")[0].score == pytest.approx(probability, abs=1e-12)

    class Half(TableRuntime):
        def logits(self, sequence):
            logits = super().logits(sequence)
            logits[2] *= 0.5
            return logits * 1000 if len(sequence) == 5 else logits

    half = Tagger(TOKENIZER, LABELS, Half())
    expected = (probability + np.exp(2) / (np.exp(2) + 4)) / 2
    assert half("d i")[0].score == pytest.approx(expected, abs=1e-12)
    assert half("d i i")[0].score == 1.0  # exp(4000) overflows unless shifted


def test_to_json():
    entity = Entity("asthma", "Disease", 3, 9, 0.5)
    assert entity.to_json() == {"text": "asthma", "label": "Disease", "start": 3, "end": 9, "score": 0.5}


@pytest.mark.parametrize("text", ["", " ", "\x00\u200b", "\ud800"])
def test_texts_without_words_need_no_model(text):
    runtime = TableRuntime()
    assert Tagger(TOKENIZER, LABELS, runtime)(text) == []
    assert sum(runtime.calls) == 0


@pytest.mark.parametrize("max_length", [6, 7, 16, 33])
def test_windows_change_nothing_where_context_changes_nothing(max_length):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(list("odirx-"), size)) for size in (1, 4, 5, 6, 50, 333)]
    texts.append("o" + "x" * 99)
    cut = Tagger(TOKENIZER, LABELS, HashRuntime(max_length))
    whole = Tagger(TOKENIZER, LABELS, HashRuntime(100_000))
    assert cut(texts) == whole(texts)
    assert any(whole(texts))


def test_each_piece_is_read_from_the_window_that_owns_it():
    class EdgeRuntime(TableRuntime):
        """Marks the outermost piece at either end of each window."""

        def logits(self, sequence):
            logits = np.zeros((len(sequence), len(LABELS)), np.float32)
            logits[2:-2, OUTSIDE] = 1
            logits[[1, -2], B_DISEASE] = 1
            return logits

    runtime = EdgeRuntime(max_length=10)  # capacity 8, overlap 2: one piece of context
    words = ["o"] * 60
    tags = Tagger(TOKENIZER, LABELS, runtime).tag_words([words])[0]
    assert runtime.calls[0] > 5
    assert [i for i, tag in enumerate(tags) if tag != "O"] == [0, 59]


def test_a_list_gives_a_list_for_each_text(tagger):
    texts = ["d i", "", "o", "r"]
    assert tagger(texts) == [tagger(text) for text in texts]
    assert tagger(tuple(texts)) == tagger(texts)
    assert tagger([]) == []


def test_texts_share_calls_of_the_runtime_in_bounded_numbers():
    runtime = TableRuntime(max_length=6)
    tagger = Tagger(TOKENIZER, LABELS, runtime)
    tagger(["d"] * 1000)
    assert max(runtime.calls) <= 300 and len(runtime.calls) <= 5
    assert sum(runtime.calls) == 1000


def test_stream_reads_ahead_no_further_than_a_batch(tagger):
    read = []

    def texts():
        for number in range(10_000):
            read.append(number)
            yield "d"

    assert brief(next(tagger.stream(texts()))) == [("d", "Disease", 0, 1)]
    assert len(read) < 1000


@pytest.mark.parametrize("text", [None, 3, b"bytes", {"text": "d"}, ["d", None], [["d"]]])
def test_other_inputs_are_refused(tagger, text):
    with pytest.raises(InputError, match=r"must be a string.*Received: "):
        tagger(text)


@pytest.mark.parametrize(
    "labels",
    [
        [],
        ["B-X", "I-X"],
        ["O", "B-"],
        ["O", "X"],
        ["O", "B-X", "B-X"],
        ["O", "E-X"],
        ["O", "o"],
        ["LABEL_0", "LABEL_1"],
    ],
)
def test_labels_other_than_iob2_are_refused(labels):
    with pytest.raises(InputError, match="Labels must be IOB2"):
        Tagger(TOKENIZER, labels, TableRuntime())


def test_words_of_a_corpus(tagger):
    sentences = [["d-i", "\u200b", "rx", "o"], [], ["\ud800"], ["ix", ""]]
    expected = [["B-Disease", "O", "B-Drug", "O"], [], ["O"], ["I-Disease", "O"]]
    assert tagger.tag_words(sentences) == expected
    labelled = tagger.label_pieces(sentences)
    assert [label_ids.tolist() for _, label_ids in labelled] == [
        [B_DISEASE, I_DISEASE, I_DISEASE, B_DRUG, I_DRUG, OUTSIDE],
        [],
        [],
        [I_DISEASE, I_DRUG],
    ]
    assert [tagger.word_tags(*pair) for pair in labelled] == expected


def test_tagging_words_agrees_with_tagging_their_text():
    tagger = Tagger(TOKENIZER, LABELS, HashRuntime())
    generator = np.random.default_rng(0)
    for _ in range(20):
        words = list(generator.choice(["o", "dx", "i", "rxx", "d"], 30))
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        spans = decode_spans(tagger.tag_words([words])[0])
        expected = [(span.label, starts[span.start], starts[span.end] - 1) for span in spans]
        assert [(entity.label, entity.start, entity.end) for entity in tagger(" ".join(words))] == expected
        assert expected


def test_context_manager_closes_the_runtime():
    runtime = TableRuntime()
    with Tagger(TOKENIZER, LABELS, runtime) as tagger:
        assert tagger("d")
        assert not runtime.closed
    assert runtime.closed


def assert_spans_lie_in_their_texts(texts, results):
    for text, entities in zip(texts, results, strict=True):
        end = 0
        for entity in entities:
            assert end <= entity.start < entity.end <= len(text)
            assert text[entity.start : entity.end] == entity.text
            assert 0 < entity.score <= 1
            end = entity.end


@pytest.mark.parametrize("name", VECTORS["tokenizers"])
@pytest.mark.parametrize("max_length", [6, 512])
def test_hostile_texts(name, max_length):
    settings = dict(VECTORS["tokenizers"][name])
    tokenizer = WordPieceTokenizer(VECTORS["vocabularies"][settings.pop("vocabulary")], **settings)
    tagger = Tagger(tokenizer, LABELS, HashRuntime(max_length))
    texts = [vector["text"] for vector in VECTORS["vectors"]]
    texts += [text + "\ud800" + text for text in texts] + ["x" * 100_000, "xé " * 10_000]
    results = tagger(texts)
    assert_spans_lie_in_their_texts(texts, results)
    assert sum(map(len, results)) > 100


@pytest.fixture(scope="module")
def tiny_path(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("tagger") / "tiny.tflite"
    write_bundle(path, **tiny_model.arguments())
    return path


@pytest.mark.skipif(not NAUGHTY.is_file(), reason="needs ../shared")
def test_naughty_strings(tiny_path):
    texts = json.loads(NAUGHTY.read_text(encoding="utf-8"))
    with Tagger.from_tflite(tiny_path) as tagger:
        results = tagger(texts)
        assert [tagger(text) for text in texts[:50]] == results[:50]
    assert_spans_lie_in_their_texts(texts, results)
    assert len(texts) == 515 and sum(map(len, results)) > 100


def test_from_tflite(tiny_path, tiny_model):
    with Tagger.from_tflite(tiny_path, threads=2) as tagger:
        tokenizer = tiny_model.tokenizer
        words = ["Aspirin", "and", "naloxone", "caused", "asthma"]
        pieces = tokenizer.encode_words(words)
        logits = tiny_model.logits([tokenizer.cls_id, *pieces.ids, tokenizer.sep_id])[1:-1]
        firsts = np.flatnonzero(pieces.first_of_word)
        expected = [tiny_model.labels[label_id] for label_id in logits[firsts].argmax(axis=-1)]
        assert tagger.tag_words([words]) == [expected]
        assert set(expected) != {"O"}


def test_from_tflite_refuses_models_for_other_tasks_and_labels(tiny_model, tmp_path):
    write_bundle(tmp_path / "text.tflite", **{**tiny_model.arguments(), "task": "text-classification"})
    with pytest.raises(InputError, match="must be for token-classification"):
        Tagger.from_tflite(tmp_path / "text.tflite")
    write_bundle(tmp_path / "labels.tflite", **{**tiny_model.arguments(), "labels": list("abcde")})
    with pytest.raises(InputError, match="Labels must be IOB2"):
        Tagger.from_tflite(tmp_path / "labels.tflite")


def test_from_pretrained(tmp_path):
    import minialbert_tf as ma

    config = ma.MiniAlbertConfig(
        vocab_size=len(TOKENIZER.vocabulary),
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        id2label=dict(enumerate(LABELS)),
    )
    model = ma.MiniAlbertForTokenClassification(config)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="must have its tokenizer"):
        Tagger.from_pretrained(tmp_path)
    TOKENIZER.save(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with Tagger.from_pretrained(path) as tagger:
            assert tagger.labels == LABELS
            texts = ["d i r " * 20, "d"]
            assert_spans_lie_in_their_texts(texts, tagger(texts))
            ids = TOKENIZER.encode("d i r").ids
            batch = {"input_ids": np.array([[TOKENIZER.cls_id, *ids, TOKENIZER.sep_id]])}
            batch["attention_mask"] = np.ones_like(batch["input_ids"])
            logits = np.array(model(batch, training=False))[0, 1:-1]
            assert tagger.label_pieces([["d", "i", "r"]])[0][1].tolist() == logits.argmax(axis=-1).tolist()


LIGHT = """
import sys
import minialbert_tf as ma
tagger = ma.Tagger.from_tflite(sys.argv[1])
tagger("Aspirin caused asthma.")
print({"tensorflow", "keras", "transformers", "huggingface_hub", "safetensors"} & set(sys.modules))
"""


def test_a_tflite_file_needs_no_heavy_import(tiny_path):
    command = [sys.executable, "-c", LIGHT, str(tiny_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"  # standard error may hold LiteRT's last words, see native_logs

"""What Python makes of texts, for core to be compared with, and a model to do it with."""

import hashlib
import json
import random
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers.normalizers import BertNormalizer

from android_demo.checks.tools import CACHE, DEMO, KEY_LENGTH, ROOT, run
from minialbert_tf.data.conll import read_conll
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.export.android import ASSET
from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

SHARED = ROOT.parent / "shared" / "data"
VECTORS = ROOT / "tests" / "fixtures" / "tokenizer_vectors.json"
LABELS = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
LENGTHS = (16, 64, 128)
SENTENCES = 500


def sentences() -> tuple[str, list[str]]:
    """Returns the name of a corpus and sentences of it: bc5cdr's test set where there is one, else the sample."""
    corpus = SHARED / "bc5cdr" / "test.tsv"
    if corpus.is_file():
        return "bc5cdr", [" ".join(sentence.words) for sentence in read_conll(corpus)[:SENTENCES]]
    parts = [read_conll(sample_folder() / f"{part}.tsv") for part in ("test", "dev", "train")]
    return "sample", [" ".join(sentence.words) for part in parts for sentence in part][:SENTENCES]


def vector_texts() -> list[str]:
    """Returns the texts of the test vectors: emoji, combining characters, controls and the like."""
    return [vector["text"] for vector in json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]]


def naughty_strings() -> list[str]:
    """Returns the Big List of Naughty Strings where there is one."""
    path = SHARED / "naughty-strings" / "blns.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def long_texts(texts: Sequence[str]) -> list[str]:
    """Returns texts that take many windows, with characters outside of ASCII before and after the words."""
    step = 40
    return [" \U0001f9ec ".join(texts[start : start + step]) for start in range(0, len(texts), step)]


def random_texts(count: int) -> list[str]:
    """Returns texts of characters that tokenizers disagree about, the same each time.

    Marks that remain when accents are stripped are left out: Hugging Face sorts them, Kotlin does not.
    """
    generator = random.Random(0)
    strip = BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    odd = [chr(code) for code in range(0x3100) if unicodedata.category(chr(code))[0] in "MZCPS"]
    odd = [c for c in odd if not unicodedata.combining(c) or not strip.normalize_str(c)]
    odd += list("İıßẞŉǅΣςﬁ豈中한각👨\u200d👩🏽🇩🇪𝐛𝓐\U00011938\U0001e922Ａ①Ω")
    plain = list("aeinrstAZ09   ")
    return ["".join(generator.choices(odd + plain * 40, k=generator.randrange(1, 40))) for _ in range(count)]


def every_character() -> Iterator[tuple[list[str], list[str]]]:
    """Yields texts that hold each character once, with those that their normal forms may consist of."""
    planes = (range(0xD800), range(0xE000, 0x32000), range(0xE0000, 0xE1000))
    codes = [chr(code) for plane in planes for code in plane]
    for start in range(0, len(codes), 20000):
        part = codes[start : start + 20000]
        texts = ["a" + "b ".join(part[i : i + 200]) + "b" for i in range(0, len(part), 200)]
        cased = "".join(part) + "".join(part).lower()
        yield texts, sorted({*cased, *unicodedata.normalize("NFD", cased), *"ab"})


def describe(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    """Returns what the JVM makes the same tokenizer from."""
    names = ("vocabulary", "lowercase", "strip_accents", "tokenize_chinese_chars")
    return {name: getattr(tokenizer, name) for name in names}


def vector_tokenizers() -> list[WordPieceTokenizer]:
    """Returns the tokenizers of the test vectors: cased and uncased, with and without accents and ideographs."""
    content = json.loads(VECTORS.read_text(encoding="utf-8"))
    described = [dict(settings) for settings in content["tokenizers"].values()]
    return [WordPieceTokenizer(content["vocabularies"][each.pop("vocabulary")], **each) for each in described]


def character_tokenizers(characters: Sequence[str]) -> list[WordPieceTokenizer]:
    """Returns tokenizers whose pieces are single characters, so that ids tell how a text was normalised."""
    kept = [c for c in characters if not c.isspace() and not "\ud800" <= c <= "\udfff"]
    vocabulary = list(dict.fromkeys([*SPECIAL_TOKENS, *kept, *("##" + c for c in kept)]))
    settings = ((False, False), (True, True), (True, False))
    return [WordPieceTokenizer(vocabulary, lowercase, strip_accents) for lowercase, strip_accents in settings]


def model_file() -> Path:
    """Returns the app's model, or else a small int8 tagger with random weights, exported as users export theirs.

    The latter is made anew when the package changes.
    """
    if (DEMO / ASSET).is_file():
        return DEMO / ASSET
    key = hashlib.sha256(Path(__file__).read_bytes())
    for folder in ("minialbert_tf", "export"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            key.update(path.read_bytes())
    model = CACHE / f"model-{key.hexdigest()[:KEY_LENGTH]}.tflite"
    if not model.is_file():
        for old in CACHE.glob("model-*.tflite"):
            old.unlink()
        CACHE.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "android_demo.checks.reference", str(model)], cwd=ROOT)
    return model


def make_model(path: Path) -> None:
    """Writes the model; in a process of its own, since tensorflow takes its time and its memory."""
    import numpy as np
    from tensorflow import keras

    import minialbert_tf as ma

    parts = [read_conll(sample_folder() / f"{part}.tsv") for part in ("train", "dev", "test")]
    texts = [" ".join(sentence.words) for part in parts for sentence in part]
    tokenizer = WordPieceTokenizer.train(texts, 2000, lowercase=True)
    keras.utils.set_random_seed(0)
    config = ma.MiniAlbertConfig(
        vocab_size=len(tokenizer.vocabulary),
        embedding_size=24,
        hidden_size=48,
        num_attention_heads=4,
        num_hidden_layers=3,
        intermediate_size=96,
        reduction_factor=4,
        id2label=dict(enumerate(LABELS)),
    )
    model = ma.MiniAlbertForTokenClassification(config)
    model({"input_ids": np.zeros((1, 8), np.int32), "attention_mask": np.ones((1, 8), np.int32)})
    generator = np.random.default_rng(0)
    for weight in model.classifier.weights:  # small ones, as layers begin with, would give every word one label
        weight.assign(generator.normal(size=weight.shape))
    ma.export.export_tflite(model, path, tokenizer=tokenizer, sequence_lengths=LENGTHS)


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))

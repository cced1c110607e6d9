"""Small corpora and checkpoints for tests of whole runs."""

import json
import random
from pathlib import Path

import tensorflow as tf

from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.data.conll import label_names, read_conll
from minialbert_tf.models import MiniAlbertForTokenClassification
from minialbert_tf.pretrained import PretrainedModel
from minialbert_tf.teacher import BertConfig, BertForMaskedLM
from minialbert_tf.tokenization import WordPieceTokenizer

PARTS = {"train": 24, "dev": 8, "test": 8}
_SIZES = {
    "embedding_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "reduction_factor": 4,
}
_SPANS = (["aspirin/B-Drug"], ["naloxone/B-Drug"], ["lung/B-Disease", "pain/I-Disease"], ["asthma/B-Disease"])
_OTHER = ("the", "of", "was", "with", "in", "U.S.", "12-week", "trial", ".")


def tiny_config(**changes) -> MiniAlbertConfig:
    """Returns a config of a model that trains in seconds, without dropout."""
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return MiniAlbertConfig(**{**_SIZES, **dropout, "vocab_size": 60, "max_position_embeddings": 32, **changes})


def sentence(generator: random.Random, words: int | None = None) -> list[tuple[str, str]]:
    """Returns words with tags; a word always has the same tag."""
    tagged: list[tuple[str, str]] = []
    for _ in range(words or generator.randint(2, 9)):
        span = generator.choice(_SPANS) if generator.random() < 0.4 else [f"{generator.choice(_OTHER)}/O"]
        tagged += [tuple(word.rsplit("/", 1)) for word in span]
    return tagged


def write_ner(folder: Path, parts: dict[str, int] = PARTS, seed: int = 0) -> Path:
    """Writes a corpus of CoNLL files."""
    generator = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in parts.items():
        sentences = [sentence(generator) for _ in range(count)]
        text = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in tagged) for tagged in sentences)
        (folder / f"{part}.tsv").write_text(text, encoding="utf-8")
    return folder


def write_table(folder: Path, kind: str, parts: dict[str, int] = PARTS, seed: int = 0) -> Path:
    """Writes tables of texts or, for `kind` "pairs", of pairs; labels are yes and no or, for "regression", numbers."""
    generator = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in parts.items():
        lines = ["id\tsentence\tother\tlabel"]
        for number in range(count):
            good = number % 2 == 0
            words = ["aspirin" if good else "asthma"] * 3 + [generator.choice(_OTHER) for _ in range(number % 4)]
            label = f"{2.5 if good else 0.5}" if kind == "regression" else "yes" if good else "no"
            lines.append(f"{number}\t{' '.join(words)}\t{generator.choice(_OTHER)}\t{label}")
        (folder / f"{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def save_checkpoint(folder: Path, data: Path, **changes) -> Path:
    """Writes a new model for the labels of a corpus, with a tokenizer that knows its words."""
    sentences = read_conll(data / "train.tsv")
    tokenizer = WordPieceTokenizer.train((" ".join(each.words) for each in sentences), 200, lowercase=True)
    labels = dict(enumerate(label_names(sentences)))
    config = tiny_config(vocab_size=len(tokenizer.vocabulary), id2label=labels, **changes)
    model = MiniAlbertForTokenClassification(config)
    model.tokenizer = tokenizer
    model.save_pretrained(folder)
    return folder


def write_texts(path: Path, documents: int = 60, seed: int = 0) -> Path:
    """Writes plain text, a document a line."""
    generator = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [" ".join(word for word, _ in sentence(generator)) for _ in range(documents)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def bert_config(**changes) -> BertConfig:
    """Returns a config of a BERT of four layers and the sizes of `tiny_config`, whose layers differ much."""
    sizes = {name: size for name, size in _SIZES.items() if name not in ("embedding_size", "reduction_factor")}
    defaults = {**sizes, "num_hidden_layers": 4, "vocab_size": 60, "max_position_embeddings": 32}
    return BertConfig(**{**defaults, "initializer_range": 0.3, **changes})


def save_bert(folder: Path, texts: Path, cls: type[PretrainedModel] = BertForMaskedLM, **changes) -> Path:
    """Writes a new BERT with a tokenizer that knows the words of a text file."""
    tokenizer = WordPieceTokenizer.train(texts.read_text(encoding="utf-8").splitlines(), 100, lowercase=True)
    model = cls(bert_config(vocab_size=len(tokenizer.vocabulary), **changes))
    model.tokenizer = tokenizer
    model.save_pretrained(folder)
    return folder


def has_bfloat16_on_cpu() -> bool:
    """Returns whether TensorFlow computes on a CPU that it can compute in bfloat16 on."""
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "avx512f" in cpu.read_text() and not tf.config.list_physical_devices("GPU")


def change_config(folder: Path, **changes) -> None:
    """Rewrites the config.json of a checkpoint."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

"""Small models for the tests of serving, and their exports, made once in a test process."""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import tensorflow as tf

import minialbert_tf as ma
from minialbert_tf.keras_runtime import KerasRuntime

ROOT = Path(__file__).parents[1]
VECTORS = json.loads((ROOT / "tests" / "fixtures" / "tokenizer_vectors.json").read_text(encoding="utf-8"))
TEXTS = [vector["text"] for vector in VECTORS["vectors"]]
NER_LABELS = ["B-Disease", "I-Chemical", "O", "I-Disease", "B-Chemical", "I-Gene"]
CLASSES = ["negative", "neutral", "positive"]
LENGTH = 32

_folder = tempfile.TemporaryDirectory(prefix="minialbert-test-")


def tokenizer(name: str) -> ma.WordPieceTokenizer:
    settings = dict(VECTORS["tokenizers"][name])
    return ma.WordPieceTokenizer(VECTORS["vocabularies"][settings.pop("vocabulary")], **settings)


def config(**changes):
    sizes = {
        "vocab_size": len(VECTORS["vocabularies"]["uncased"]),
        "embedding_size": 12,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": LENGTH,
        "reduction_factor": 4,
    }
    return ma.MiniAlbertConfig(**{**sizes, **changes})


def with_loud_weights(model):
    """Makes labels depend strongly on pieces and neighbours, so that a wrong piece or window shows."""
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(random.normal(0, 0.6, variable.shape))
    model.tokenizer = tokenizer("uncased")
    return model


@cache
def ner_model():
    return with_loud_weights(ma.MiniAlbertForTokenClassification(config(id2label=dict(enumerate(NER_LABELS)))))


@cache
def text_model():
    model = with_loud_weights(ma.MiniAlbertForSequenceClassification(config(id2label=dict(enumerate(CLASSES)))))
    # The state at [CLS] changes little from text to text: this brings every class within reach.
    model.classifier.kernel.assign(10 * model.classifier.kernel)
    ids = [model.tokenizer.encode(text).ids[:LENGTH] for text in TEXTS]
    logits = np.concatenate([model({"input_ids": np.array([[2, *row]])[:, :LENGTH]}) for row in ids])
    model.classifier.bias.assign(-logits.mean(axis=0))
    return model


@cache
def tagger():
    return ma.Tagger(ner_model().tokenizer, NER_LABELS, KerasRuntime(ner_model()))


@cache
def load(folder: Path):
    """Returns a SavedModel that stays alive: its signatures alone do not hold the variables."""
    return tf.saved_model.load(str(folder))


@cache
def ner_export() -> Path:
    return ma.export.export_saved_model(ner_model(), Path(_folder.name) / "ner")


@cache
def text_export() -> Path:
    return ma.export.export_saved_model(text_model(), Path(_folder.name) / "texts")


def entities(texts, outputs):
    """Reads the outputs of a signature into what `brief` gives, and the scores."""
    outputs = {name: np.asarray(value) for name, value in outputs.items()}
    found, scores = [], []
    for index, text in enumerate(texts):
        length = outputs["lengths"][index]
        labels, starts, ends = (outputs[name][index][:length] for name in ("labels", "starts", "ends"))
        spans = zip(labels, starts, ends, strict=True)
        found.append([(text[start:end], label.decode(), start, end) for label, start, end in spans])
        scores.append(outputs["scores"][index][:length].tolist())
    return found, scores


def brief(entities):
    return [(entity.text, entity.label, entity.start, entity.end) for entity in entities]

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from minialbert_tf.tokenization import WordPieceTokenizer

TEXTS = [
    "Selegiline-induced postural hypotension in Parkinson's disease.",
    "Aspirin and naloxone caused asthma; clonidine did not.",
    "ÀÉîõü 12.5 mg/kg (i.v.)",
]


@dataclass(frozen=True)
class TinyModel:
    """A .tflite network with signatures length_16 and length_32, and what it consists of."""

    flatbuffer: bytes
    table: np.ndarray
    matrix: np.ndarray
    tokenizer: WordPieceTokenizer
    labels: tuple[str, ...] = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
    sequence_lengths: tuple[int, ...] = (16, 32)

    def logits(self, sequence: list[int]) -> np.ndarray:
        hidden = self.table[list(sequence)]
        return (hidden + hidden.mean(axis=0)) @ self.matrix

    def arguments(self) -> dict:
        """Arguments of `minialbert_tf.export.bundle.write_bundle`."""
        return {
            "flatbuffer": self.flatbuffer,
            "task": "token-classification",
            "labels": self.labels,
            "sequence_lengths": self.sequence_lengths,
            "quantization": "float32",
            "tokenizer": self.tokenizer,
            "config": {"vocab_size": len(self.tokenizer.vocabulary)},
        }


@pytest.fixture(scope="session", autouse=True)
def packed_weights_elsewhere(tmp_path_factory):
    """Keeps what LiteRT packs out of the user's caches."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MINIALBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def same_random_weights():
    """Gives each test file the same random numbers in every run, whatever ran before it in the process."""
    from tensorflow import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> TinyModel:
    tokenizer = WordPieceTokenizer.train(TEXTS, 150, lowercase=True)
    script = Path(__file__).parent / "fixtures" / "tiny_tflite.py"
    output = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    # The converter leaks memory and writes to standard error.
    command = [sys.executable, str(script), str(len(tokenizer.vocabulary)), str(len(TinyModel.labels)), str(output)]
    subprocess.run(command, check=True, capture_output=True)
    weights = np.load(output.with_suffix(".npz"))
    return TinyModel(output.read_bytes(), weights["table"], weights["matrix"], tokenizer)


@pytest.fixture(scope="session")
def tiny_tagger():
    """A random MiniALBERT for the labels O, B-X and I-X, with a tokenizer."""
    from tensorflow import keras

    from minialbert_tf.config import MiniAlbertConfig
    from minialbert_tf.models import MiniAlbertForTokenClassification

    keras.utils.set_random_seed(1)
    tokenizer = WordPieceTokenizer.train(TEXTS, 150, lowercase=True)
    config = MiniAlbertConfig(
        vocab_size=len(tokenizer.vocabulary),
        embedding_size=16,
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=2,
        intermediate_size=48,
        max_position_embeddings=32,
        id2label={0: "O", 1: "B-X", 2: "I-X"},
        initializer_range=0.5,
    )
    model = MiniAlbertForTokenClassification(config)
    model.tokenizer = tokenizer
    return model


@pytest.fixture(scope="session")
def tiny_tagger_file(tmp_path_factory, tiny_tagger) -> Path:
    """`tiny_tagger` as a .tflite, through the real exporter."""
    from minialbert_tf.export.tflite import export_tflite

    path = tmp_path_factory.mktemp("tagger") / "ner.tflite"
    export_tflite(tiny_tagger, path, quantization="float32", sequence_lengths=(16, 32))
    return path

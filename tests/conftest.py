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

"""The models that come with the package, made by training/builtin.sh; each has a model card beside it."""

from pathlib import Path
from typing import Final

BUILTIN: Final = "builtin"  # their name where a model is asked for
_FOLDER = Path(__file__).parent

TAGGER: Final = _FOLDER / "tagger.tflite"
"""Finds chemicals and diseases; see TAGGER.md."""

ENCODER: Final = _FOLDER / "encoder"
"""A distilled encoder to fine-tune; see ENCODER.md."""

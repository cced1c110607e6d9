"""MiniALBERT for TensorFlow: a recursive transformer for biomedical text, from a PyTorch checkpoint to a phone.

Names load on first use, so that tagging with a .tflite file imports neither tensorflow nor transformers.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minialbert_tf import distillation as distillation
    from minialbert_tf import export as export
    from minialbert_tf.config import MiniAlbertConfig as MiniAlbertConfig
    from minialbert_tf.errors import CheckpointError as CheckpointError
    from minialbert_tf.errors import DataError as DataError
    from minialbert_tf.errors import InputError as InputError
    from minialbert_tf.models import MiniAlbertForMaskedLM as MiniAlbertForMaskedLM
    from minialbert_tf.models import MiniAlbertForSequenceClassification as MiniAlbertForSequenceClassification
    from minialbert_tf.models import MiniAlbertForTokenClassification as MiniAlbertForTokenClassification
    from minialbert_tf.models import MiniAlbertModel as MiniAlbertModel
    from minialbert_tf.tagger import Entity as Entity
    from minialbert_tf.tagger import Tagger as Tagger
    from minialbert_tf.teacher import BertForMaskedLM as BertForMaskedLM
    from minialbert_tf.teacher import BertForTokenClassification as BertForTokenClassification
    from minialbert_tf.tokenization import WordPieceTokenizer as WordPieceTokenizer

_HOME = {
    "MiniAlbertConfig": "config",
    "CheckpointError": "errors",
    "DataError": "errors",
    "InputError": "errors",
    "MiniAlbertForMaskedLM": "models",
    "MiniAlbertForSequenceClassification": "models",
    "MiniAlbertForTokenClassification": "models",
    "MiniAlbertModel": "models",
    "Entity": "tagger",
    "Tagger": "tagger",
    "BertForMaskedLM": "teacher",
    "BertForTokenClassification": "teacher",
    "WordPieceTokenizer": "tokenization",
}
_PACKAGES = ("distillation", "export")

__all__ = [*_HOME, *_PACKAGES, "__version__"]

# In a checkout that is not installed, minialbert_tf.export is the folder export/ beside this package.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "setup.cfg").is_file():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("minialbert-tf")
    if name in _PACKAGES:
        return import_module(f"minialbert_tf.{name}")
    if name in _HOME:
        return getattr(import_module(f"minialbert_tf.{_HOME[name]}"), name)
    raise AttributeError(f"module 'minialbert_tf' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)

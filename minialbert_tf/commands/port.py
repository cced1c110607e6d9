"""`minialbert port`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from minialbert_tf.errors import InputError

if TYPE_CHECKING:
    from minialbert_tf.models import PretrainedModel

_KERAS = ".keras"
_EXAMPLES = """examples:
  minialbert port nlpie/bio-miniALBERT-128 bio                  PyTorch's .bin to safetensors, checked tensor by tensor
  minialbert port nlpie/bio-miniALBERT-128 bio.keras            to a Keras archive
  minialbert port --head ner tuned.keras tuned                  back to a checkpoint that the PyTorch code loads
"""
HEADS = {
    "none": "MiniAlbertModel",
    "masked-lm": "MiniAlbertForMaskedLM",
    "ner": "MiniAlbertForTokenClassification",
    "classification": "MiniAlbertForSequenceClassification",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("source", metavar="SRC", help=f"checkpoint folder, weight file, hub id, or a {_KERAS} archive")
    parser.add_argument("target", metavar="DST", type=Path, help=f"folder to write, or a file ending in {_KERAS}")
    parser.add_argument("--head", choices=tuple(HEADS), help="of the model (default: what config.json names)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of a checkpoint's weights")
    parser.add_argument("--force", action="store_true", help="replace an existing DST")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Reads one format, writes the other, and says what became of each tensor."""
    from minialbert_tf.files import check_free, replacing

    check_free(arguments.target, arguments.force)
    model = _load(arguments.source, arguments.head)
    if arguments.target.suffix == _KERAS:
        with replacing(arguments.target, arguments.force) as new:
            model.save(new)
    else:
        model.save_pretrained(arguments.target, force=arguments.force, dtype=arguments.dtype)
    report = model.load_report
    if arguments.json:
        print(json.dumps(report._asdict() if report else {"source": arguments.source}))
        return
    print(report or f"{arguments.source}: a Keras archive of {type(model).__name__}")
    print(f"wrote {arguments.target}: {type(model).__name__}, {model.count_params():,} parameters")


def _load(source: str, head: str | None) -> "PretrainedModel":
    from tensorflow import keras

    from minialbert_tf import models
    from minialbert_tf.checkpoints.hub import resolve
    from minialbert_tf.config import MiniAlbertConfig

    path = resolve(source)
    if path.suffix == _KERAS:
        try:
            model = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras lets out whatever its parts say to a damaged archive
            raise InputError(f"{path} must be a Keras archive of this package: {error}") from error
        if not isinstance(model, models.PretrainedModel):
            raise InputError(f"{path} must hold a model of this package. Received: {type(model).__name__}")
        return model
    name = HEADS[head] if head else _named_head(MiniAlbertConfig.from_pretrained(path).extra)
    return getattr(models, name).from_pretrained(path)


def _named_head(extra: dict[str, object]) -> str:
    architectures = extra.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    if named not in HEADS.values():
        raise InputError(
            f"config.json must name one of {', '.join(HEADS.values())}, or use --head. Received: {named!r}"
        )
    return str(named)

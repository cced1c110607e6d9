"""`minialbert export`."""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minialbert_tf.export.recipes import GRAPHS, RECIPES

_TFLITE_EXAMPLE = """example:
  minialbert export tflite --model my-model --output ner.tflite --lengths 64 128 256
"""
_SAVED_MODEL_EXAMPLE = """example:
  minialbert export saved-model --model my-model --output serving/ner
"""
_ANDROID_EXAMPLE = """example:
  minialbert export android --model ner.tflite --project android_demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = f"{_TFLITE_EXAMPLE}{_SAVED_MODEL_EXAMPLE}{_ANDROID_EXAMPLE}".replace("\nexample:", "")
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")

    def add(name: str, summary: str, example: str, run: Callable[[argparse.Namespace], None]) -> Any:
        added = formats.add_parser(
            name, help=summary, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        added.set_defaults(run=run)
        return added

    tflite = add("tflite", "one .tflite file for phones, vocabulary and labels inside", _TFLITE_EXAMPLE, run_tflite)
    _add_model(tflite)
    tflite.add_argument("--output", required=True, type=Path, help="the .tflite file to write")
    tflite.add_argument(
        "--quantization",
        choices=RECIPES,
        default="int8",
        help=f"{'; '.join(f'{recipe.name}: {recipe.summary}' for recipe in RECIPES.values())} (default: int8)",
    )
    tflite.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        help="one signature each (default: 32 64 128 256 512, as far as the model goes)",
    )
    tflite.add_argument(
        "--graph",
        choices=GRAPHS,
        default="unrolled",
        help="unrolled, for every delegate, or loop, lean where weights cannot be cached (default: unrolled)",
    )
    tflite.add_argument(
        "--dynamic", action="store_true", help="one signature for any length up to the longest, for CPUs"
    )
    tflite.add_argument("--recursions", type=int, help="apply the block so often (default: as the model does)")
    tflite.add_argument("--force", action="store_true", help="replace an existing file")
    tflite.add_argument("--json", action="store_true", help="print the file's card as JSON")

    served = add("saved-model", "for TensorFlow Serving: text in, entities out", _SAVED_MODEL_EXAMPLE, run_saved_model)
    _add_model(served)
    served.add_argument("--output", required=True, type=Path, help="the folder NAME; the version goes into it")
    served.add_argument("--version", type=int, help="version (default: the one after the highest that exists)")
    served.add_argument("--force", action="store_true", help="replace an existing version")

    android = add("android", "put a .tflite file into the Android demo or a copy of it", _ANDROID_EXAMPLE, run_android)
    android.add_argument("--model", required=True, type=Path, help="the .tflite file")
    android.add_argument("--project", type=Path, default=Path("android_demo"), help="default: android_demo")
    android.add_argument("--force", action="store_true", help="replace the project's present model")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="checkpoint folder or hub id of a fine-tuned model")
    parser.add_argument("--task", choices=("ner", "classification"), default="ner", help="the model's (default: ner)")


def _load(arguments: argparse.Namespace) -> Any:
    from minialbert_tf.models import MiniAlbertForSequenceClassification, MiniAlbertForTokenClassification

    ner = arguments.task == "ner"
    model_class = MiniAlbertForTokenClassification if ner else MiniAlbertForSequenceClassification
    return model_class.from_pretrained(arguments.model)


def run_saved_model(arguments: argparse.Namespace) -> None:
    """Writes a SavedModel."""
    from minialbert_tf.export.saved_model import export_saved_model

    folder = export_saved_model(_load(arguments), arguments.output, version=arguments.version, force=arguments.force)
    print(f"wrote {folder}")


def run_android(arguments: argparse.Namespace) -> None:
    """Copies a .tflite file into the app's assets."""
    from minialbert_tf.export.android import export_android

    print(f"wrote {export_android(arguments.model, arguments.project, arguments.force)}; now build the app again")


def run_tflite(arguments: argparse.Namespace) -> None:
    """Writes a .tflite file."""
    from minialbert_tf.export.tflite import export_tflite
    from minialbert_tf.files import check_free

    check_free(arguments.output, arguments.force)  # before minutes of work
    card = export_tflite(
        _load(arguments),
        arguments.output,
        quantization=arguments.quantization,
        sequence_lengths=arguments.lengths,
        force=arguments.force,
        graph=arguments.graph,
        dynamic=arguments.dynamic,
        recursions=arguments.recursions,
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(card)))
    else:
        size = arguments.output.stat().st_size / 1e6
        lengths = ", ".join(map(str, card.sequence_lengths))
        print(f"wrote {arguments.output}: {size:.2f} MB, {card.quantization}, lengths {lengths}")

"""`minialbert export`."""

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from minialbert_tf.export.recipes import GRAPHS, OTHER_NAMES, RECIPES

_MOST_TEXTS = 1000
_TFLITE_EXAMPLE = """example:
  minialbert export tflite --model my-model --output ner.tflite --lengths 64 128 256 --data bc5cdr
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

    _add_tflite(add("tflite", "one .tflite file for phones, vocabulary and labels inside", _TFLITE_EXAMPLE, run_tflite))

    served = add("saved-model", "for TensorFlow Serving: text in, entities out", _SAVED_MODEL_EXAMPLE, run_saved_model)
    _add_model(served)
    served.add_argument("--output", required=True, type=Path, help="the folder NAME; the version goes into it")
    served.add_argument("--version", type=int, help="version (default: the one after the highest that exists)")
    served.add_argument("--force", action="store_true", help="replace an existing version")

    android = add("android", "put a .tflite file into the Android demo or a copy of it", _ANDROID_EXAMPLE, run_android)
    android.add_argument("--model", required=True, type=Path, help="the .tflite file")
    android.add_argument("--project", type=Path, default=Path("android_demo"), help="default: android_demo")
    android.add_argument("--force", action="store_true", help="replace the project's present model")


def _add_tflite(tflite: argparse.ArgumentParser) -> None:
    _add_model(tflite)
    tflite.add_argument("--output", required=True, type=Path, help="the .tflite file to write")
    tflite.add_argument(
        "--quantization",
        choices=(*RECIPES, *OTHER_NAMES),
        metavar="NAME",
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
    tflite.add_argument(
        "--calibration",
        nargs="+",
        metavar="FILE",
        help=f"texts, a line each, to measure ranges for int8-static and int16x8; the first {_MOST_TEXTS} count",
    )
    tflite.add_argument(
        "--texts",
        nargs="+",
        metavar="FILE",
        help=f"texts, a line each, to compare labels on; the first {_MOST_TEXTS} count (both default to a sample)",
    )
    tflite.add_argument("--data", type=Path, help="folder with PART.tsv, to compare the F1 on (--task ner)")
    tflite.add_argument("--part", default="test", help="train, dev or test (default: test)")
    tflite.add_argument(
        "--force-quality", action="store_true", help="write the file even if it loses more than its quantization may"
    )
    tflite.add_argument("--force", action="store_true", help="replace an existing file")
    tflite.add_argument("--json", action="store_true", help="print the report, which is written beside the file, too")


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
    from minialbert_tf.data.conll import read_conll
    from minialbert_tf.export.tflite import export_tflite, report_path
    from minialbert_tf.files import check_free

    for path in (arguments.output, report_path(arguments.output)):
        check_free(path, arguments.force)  # before minutes of work
    report = export_tflite(
        _load(arguments),
        arguments.output,
        quantization=arguments.quantization,
        sequence_lengths=arguments.lengths,
        force=arguments.force,
        graph=arguments.graph,
        dynamic=arguments.dynamic,
        recursions=arguments.recursions,
        calibration=_read_texts(arguments.calibration),
        texts=_read_texts(arguments.texts),
        data=read_conll(arguments.data / f"{arguments.part}.tsv") if arguments.data else (),
        force_quality=arguments.force_quality,
    )
    if arguments.json:
        print(json.dumps(report.to_json()))
    else:
        print(f"{report}\nwrote {arguments.output} and {report_path(arguments.output).name}")


def _read_texts(names: list[str] | None) -> Iterator[str] | None:
    from minialbert_tf.data.corpus import find_files, read_documents

    return None if names is None else islice(read_documents(find_files(names)), _MOST_TEXTS)

"""`minialbert export`."""

import argparse
import dataclasses
import json
from pathlib import Path

_EXAMPLES = """example:
  minialbert export tflite --model my-model --output ner.tflite --lengths 64 128 256
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    tflite = formats.add_parser(
        "tflite",
        help="one .tflite file for phones, with vocabulary and labels inside",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tflite.add_argument("--model", required=True, help="checkpoint folder or hub id of a fine-tuned model")
    tflite.add_argument("--output", required=True, type=Path, help="the .tflite file to write")
    tflite.add_argument("--task", choices=("ner", "classification"), default="ner", help="the model's (default: ner)")
    tflite.add_argument("--quantization", choices=("int8", "float32"), default="int8", help="default: int8")
    tflite.add_argument(
        "--lengths", type=int, nargs="+", default=[64, 128, 256], help="one signature each (default: 64 128 256)"
    )
    tflite.add_argument("--force", action="store_true", help="replace an existing file")
    tflite.add_argument("--json", action="store_true", help="print the file's card as JSON")
    tflite.set_defaults(run=run_tflite)


def run_tflite(arguments: argparse.Namespace) -> None:
    """Writes a .tflite file."""
    from minialbert_tf.export.tflite import export_tflite
    from minialbert_tf.files import check_free
    from minialbert_tf.models import MiniAlbertForSequenceClassification, MiniAlbertForTokenClassification

    check_free(arguments.output, arguments.force)  # before minutes of work
    ner = arguments.task == "ner"
    model_class = MiniAlbertForTokenClassification if ner else MiniAlbertForSequenceClassification
    model = model_class.from_pretrained(arguments.model)
    card = export_tflite(
        model,
        arguments.output,
        quantization=arguments.quantization,
        sequence_lengths=arguments.lengths,
        force=arguments.force,
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(card)))
    else:
        size = arguments.output.stat().st_size / 1e6
        lengths = ", ".join(map(str, card.sequence_lengths))
        print(f"wrote {arguments.output}: {size:.2f} MB, {card.quantization}, lengths {lengths}")

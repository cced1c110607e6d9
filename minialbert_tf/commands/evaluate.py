"""`minialbert evaluate`."""

import argparse
import json
from pathlib import Path
from typing import Any

_EXAMPLES = """examples:
  minialbert evaluate --model ner.tflite --data bc5cdr
  minialbert evaluate --model my-model --data bc5cdr --part dev --json
  minialbert evaluate --task classification --model sentiment --data SST-2 --part dev
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--model", required=True, help="a .tflite file (for --task ner), a checkpoint folder or a hub id"
    )
    parser.add_argument("--data", required=True, type=Path, help="folder with PART.tsv")
    parser.add_argument("--part", default="test", help="train, dev or test (default: test)")
    parser.add_argument("--task", choices=("ner", "classification", "regression"), default="ner", help="default: ner")
    add_columns(parser)
    parser.add_argument(
        "--label-pieces", choices=("first", "all"), default="first", help="how the model was trained (default: first)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of a .tflite file (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def add_columns(parser: argparse._ActionsContainer) -> None:
    """Adds the names of a table's columns."""
    parser.add_argument("--text-column", default="sentence", help="column of the texts (default: sentence)")
    parser.add_argument("--pair-column", help="column of the second texts, for pairs")
    parser.add_argument("--label-column", default="label", help="column of the labels (default: label)")


def run(arguments: argparse.Namespace) -> None:
    """Scores the model and prints the report."""
    report = _ner(arguments) if arguments.task == "ner" else _texts(arguments)
    print(json.dumps(report.to_json()) if arguments.json else report)


def _ner(arguments: argparse.Namespace) -> Any:
    from minialbert_tf.commands.tag import open_tagger
    from minialbert_tf.data.conll import read_conll
    from minialbert_tf.evaluation import evaluate_tagger

    sentences = read_conll(arguments.data / f"{arguments.part}.tsv")
    with open_tagger(arguments.model, arguments.threads) as tagger:
        return evaluate_tagger(tagger, sentences, arguments.label_pieces, progress=True)


def _texts(arguments: argparse.Namespace) -> Any:
    from minialbert_tf.data.tables import read_table
    from minialbert_tf.models import MiniAlbertForSequenceClassification
    from minialbert_tf.text_evaluation import check_classes, evaluate_texts

    regression = arguments.task == "regression"
    path = arguments.data / f"{arguments.part}.tsv"
    rows = read_table(
        path,
        arguments.text_column,
        arguments.pair_column,
        arguments.label_column,
        regression=regression,
    )
    model = MiniAlbertForSequenceClassification.from_pretrained(arguments.model)
    if not regression:
        check_classes(rows, model.config.labels, path)
    return evaluate_texts(model, rows, regression)

"""`minialbert benchmark`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

_EXAMPLES = """examples:
  minialbert benchmark ner.tflite
  minialbert benchmark int8.tflite int4.tflite --threads 1 2 --data bc5cdr --plot sizes.png
  minialbert benchmark ner.tflite --lengths 20 128 --json | jq '.measurements[].p50_ms'

Each figure is taken in processes of its own with an own folder for packed weights. Memory is what a tagger adds to a
process after one call, at the second start; anonymous memory is the part that the system cannot drop or share.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a .tflite file")
    parser.add_argument("--lengths", type=int, nargs="+", help="pieces of a sequence (default: each file's lengths)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="threads of a call (default: 1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to repeat each call (default: 2)")
    parser.add_argument("--data", type=Path, help="folder with PART.tsv, to score the files on as well")
    parser.add_argument("--part", default="test", help="train, dev or test (default: test)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write a picture; needs matplotlib")
    parser.add_argument("--force", action="store_true", help="replace an existing picture")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measures the files and prints the figures."""
    from tqdm import tqdm

    from minialbert_tf.benchmarking import describe_machine, format_table, measure, plan
    from minialbert_tf.errors import InputError

    if not arguments.seconds > 0:
        raise InputError(f"seconds must be more than 0. Received: {arguments.seconds}")
    cases = plan(arguments.files, arguments.lengths, arguments.threads)
    if arguments.plot:
        from minialbert_tf.benchmark_plot import check_can_plot
        from minialbert_tf.files import check_free

        check_can_plot()
        check_free(arguments.plot, arguments.force)
    scores = _scores(arguments) if arguments.data else {}
    figures = measure(cases, arguments.seconds, scores)
    measurements = list(tqdm(figures, total=len(cases), unit="measurement", disable=None))
    machine = describe_machine()
    if arguments.json:
        print(json.dumps({"machine": machine, "measurements": [row.to_json() for row in measurements]}))
    else:
        print(format_table(measurements))
        print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()))
    if arguments.plot:
        _plot(measurements, arguments)


def _scores(arguments: argparse.Namespace) -> dict[Path, float]:
    from minialbert_tf.data.conll import read_conll
    from minialbert_tf.evaluation import evaluate_tagger
    from minialbert_tf.tagger import Tagger

    sentences = read_conll(arguments.data / f"{arguments.part}.tsv")
    scores = {}
    for path in arguments.files:
        print(f"scoring {path}", file=sys.stderr)
        with Tagger.from_tflite(path, max(arguments.threads)) as tagger:
            scores[path] = evaluate_tagger(tagger, sentences, progress=True).entities.micro.f1
    return scores


def _plot(measurements: list[Any], arguments: argparse.Namespace) -> None:
    from minialbert_tf.benchmark_plot import save_plot
    from minialbert_tf.files import replacing

    with replacing(arguments.plot, arguments.force) as path:
        save_plot(measurements, path)
    print(f"wrote {arguments.plot}", file=sys.stderr)

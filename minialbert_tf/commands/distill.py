"""`minialbert distill`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minialbert_tf.commands.workers import add_strategy, workers_of

if TYPE_CHECKING:
    from minialbert_tf.workers import Workers

_EXAMPLES = """examples:
  minialbert distill --teacher bert-base-uncased --text 'wikipedia/*.txt.gz' --steps 100000 --output student
  minialbert distill --teacher all-MiniLM-L6-v2 --text abstracts.txt --packed --window 128 --batch-size 64 \\
      --steps 10000 --warmup-steps 500 --embedding-size 192 --reduction-factor 6 --mixed-precision --output student

If it is stopped or killed, the same command goes on where it was. The losses of every step are in
OUTPUT.training/logs while it runs (tensorboard --logdir OUTPUT.training/logs), and in OUTPUT/logs afterwards.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    data = parser.add_argument_group("what learns what from whom")
    data.add_argument("--teacher", required=True, help="BERT: checkpoint folder or hub id")
    data.add_argument("--text", required=True, nargs="+", metavar="FILE", help="plain or gzipped text; patterns work")
    data.add_argument("--output", type=Path, default=Path("student"), help="folder to write (default: student)")
    data.add_argument("--force", action="store_true", help="replace an existing output")
    data.add_argument("--restart", action="store_true", help="drop what a stopped run has left")
    data.add_argument(
        "--save-seconds", type=float, default=300.0, help="how often to save, for going on later (default: 300)"
    )
    data.add_argument("--json", action="store_true", help="print the results as one JSON object")
    _add_student(parser.add_argument_group("student"))
    _add_windows(parser.add_argument_group("windows of text"))
    _add_losses(parser.add_argument_group("losses (0 leaves one out)"))
    _add_training(parser.add_argument_group("training"))
    add_strategy(parser.add_argument_group("several devices or machines (docs/workers.md)"))
    parser.set_defaults(run=run)


def _add_student(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--student", help="a checkpoint to go on with, instead of a new student")
    group.add_argument("--embedding-size", type=int, default=128, help="default: 128")
    group.add_argument("--recursions", type=int, default=6, help="default: 6")
    group.add_argument("--hidden-size", type=int, help="default: the teacher's; another one needs --start random")
    group.add_argument("--reduction-factor", type=int, default=16, help="of the adapters (default: 16)")
    group.add_argument("--no-adapters", action="store_true", help="leave the adapters out")
    group.add_argument("--dropout", type=float, default=0.1, help="default: 0.1")
    group.add_argument(
        "--start", choices=("teacher", "random"), default="teacher", help="weights to start from (default: teacher)"
    )
    group.add_argument(
        "--start-layer", type=int, help="teacher's layer for the block to start from (default: the mean of all)"
    )


def _add_windows(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--documents", choices=("line", "blank-line"), default="line", help="what ends a document (default: line)"
    )
    group.add_argument("--window", type=int, default=256, help="longest sequence in pieces (default: 256)")
    group.add_argument("--stride", type=int, default=128, help="pieces from window to window (default: 128)")
    group.add_argument(
        "--packed", action="store_true", help="fill windows with one document after another: no padding, no stride"
    )
    group.add_argument("--windows-per-document", type=int, help="at most, in each pass (default: all)")
    group.add_argument("--mask-rate", type=float, default=0.15, help="share of masked pieces (default: 0.15)")


def _add_losses(group: argparse._ArgumentGroup) -> None:
    for name, weight, what in (
        ("mlm", 1.0, "masked tokens"),
        ("embedding", 0.0, "embeddings"),
        ("attention", 3.0, "attention maps"),
        ("hidden", 3.0, "hidden states"),
        ("output", 5.0, "distributions over the vocabulary, where the teacher has a masked-LM head"),
    ):
        group.add_argument(f"--{name}-weight", type=float, default=weight, help=f"{what} (default: {weight:g})")
    group.add_argument("--temperature", type=float, default=1.0, help="of the output loss (default: 1)")
    group.add_argument(
        "--layer-map",
        type=int,
        nargs="+",
        metavar="LAYER",
        help="the teacher's layer, from 1, for each recursion (default: evenly spread)",
    )


def _add_training(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--steps", type=int, required=True, help="updates of the weights")
    group.add_argument("--batch-size", type=int, default=192, help="default: 192")
    group.add_argument(
        "--accumulation", type=int, default=1, help="parts to compute a batch in, to save memory (default: 1)"
    )
    group.add_argument("--learning-rate", type=float, default=5e-4, help="peak (default: 5e-4)")
    group.add_argument("--schedule", choices=("linear", "cosine"), default="linear", help="decay (default: linear)")
    group.add_argument("--warmup-steps", type=int, default=5000, help="default: 5000")
    group.add_argument("--weight-decay", type=float, default=1e-4, help="not on biases and norms (default: 1e-4)")
    group.add_argument("--clip-norm", type=float, default=1.0, help="of the gradient (default: 1.0)")
    group.add_argument("--seed", type=int, default=0, help="default: 0")
    group.add_argument("--mixed-precision", action="store_true", help="compute in bfloat16")
    group.add_argument("--xla", action="store_true", help="compile with XLA; slower on the CPUs that it was tried on")


def run(arguments: argparse.Namespace) -> None:
    """Distils, and prints the results."""
    with workers_of(arguments) as workers:
        results = _distill(arguments, workers)
    if workers.is_chief:
        print(json.dumps(results) if arguments.json else f"\nwrote {arguments.output}: {results['losses']}")


def _distill(arguments: argparse.Namespace, workers: "Workers") -> dict[str, Any]:
    from minialbert_tf.distillation.losses import LossWeights
    from minialbert_tf.distillation.run import Settings, distill

    settings = Settings(
        teacher=arguments.teacher,
        texts=tuple(arguments.text),
        steps=arguments.steps,
        separator=arguments.documents,
        student=arguments.student,
        embedding_size=arguments.embedding_size,
        recursions=arguments.recursions,
        hidden_size=arguments.hidden_size,
        reduction_factor=None if arguments.no_adapters else arguments.reduction_factor,
        dropout=arguments.dropout,
        start=arguments.start,
        start_layer=arguments.start_layer,
        layer_map=None if arguments.layer_map is None else tuple(arguments.layer_map),
        weights=LossWeights(
            mlm=arguments.mlm_weight,
            embedding=arguments.embedding_weight,
            attention=arguments.attention_weight,
            hidden=arguments.hidden_weight,
            output=arguments.output_weight,
        ),
        temperature=arguments.temperature,
        window=arguments.window,
        stride=arguments.stride,
        packed=arguments.packed,
        windows_per_document=arguments.windows_per_document,
        mask_rate=arguments.mask_rate,
        batch_size=arguments.batch_size,
        accumulation=arguments.accumulation,
        learning_rate=arguments.learning_rate,
        schedule=arguments.schedule,
        warmup_steps=arguments.warmup_steps,
        weight_decay=arguments.weight_decay,
        clip_norm=arguments.clip_norm,
        seed=arguments.seed,
        mixed_precision=arguments.mixed_precision,
        xla=arguments.xla,
    )
    return distill(
        settings,
        arguments.output,
        force=arguments.force,
        restart=arguments.restart,
        save_seconds=arguments.save_seconds,
        workers=workers,
    )

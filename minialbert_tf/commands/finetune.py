"""`minialbert finetune`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minialbert_tf.builtin import BUILTIN
from minialbert_tf.commands.evaluate import add_columns
from minialbert_tf.commands.workers import add_strategy, workers_of

if TYPE_CHECKING:
    from minialbert_tf.workers import Workers

_EXAMPLES = """examples:
  minialbert finetune --task ner --data bc5cdr --model nlpie/bio-miniALBERT-128 --output bc5cdr-model
  minialbert finetune --task ner --data bc5cdr --model nlpie/bio-miniALBERT-128 --adapters-only --output bc5cdr-adapters
  minialbert finetune --data bc5cdr --model student --teacher bert-bc5cdr --unlabelled 'abstracts/*.txt.gz' --output ner
  minialbert finetune --task ner --data ncbi-disease --output disease-tagger
  minialbert finetune --task classification --data SST-2 --text-column sentence --label-column label --output sentiment

If it is stopped or killed, the same command goes on where it was.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    data = parser.add_argument_group("what is trained on what")
    data.add_argument("--task", choices=("ner", "classification", "regression"), default="ner", help="default: ner")
    data.add_argument(
        "--data",
        required=True,
        help="folder with train.tsv, and dev.tsv and test.tsv as far as there are: for ner, word TAB tag, a blank line "
        "between sentences; else a table with a header",
    )
    add_columns(data)
    data.add_argument("--output", type=Path, default=Path("model"), help="folder to write (default: model)")
    data.add_argument("--force", action="store_true", help="replace an existing output")
    data.add_argument("--restart", action="store_true", help="drop what a stopped run has left")
    data.add_argument(
        "--save-seconds", type=float, default=60.0, help="how often to save, to go on from after a kill (default: 60)"
    )
    data.add_argument("--json", action="store_true", help="print the results as one JSON object")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", default=BUILTIN, help="checkpoint folder, hub id, scratch or builtin (default: builtin)"
    )
    model.add_argument("--adapters-only", action="store_true", help="train only the adapters and the head")
    model.add_argument(
        "--size", choices=("tiny", "small", "full"), default="small", help="from scratch (default: small)"
    )
    model.add_argument("--vocab-size", type=int, default=8000, help="from scratch: most pieces (default: 8000)")
    model.add_argument("--cased", action="store_true", help="from scratch: keep upper case")
    model.add_argument("--max-length", type=int, default=256, help="longest sequence in pieces (default: 256)")
    model.add_argument(
        "--label-pieces",
        choices=("first", "all"),
        default="first",
        help="label the first piece of a word, or copy the label to all as the original scripts do (default: first)",
    )

    taught = parser.add_argument_group("task distillation: a larger fine-tuned model teaches")
    taught.add_argument("--teacher", help="checkpoint for the same labels, whose judgement joins the loss")
    taught.add_argument(
        "--unlabelled", nargs="+", default=[], metavar="FILE", help="raw text, a text a line, which the teacher labels"
    )
    taught.add_argument(
        "--teacher-weight", type=float, default=0.5, help="share of the loss where there is a label (default: 0.5)"
    )
    taught.add_argument("--temperature", type=float, default=1.0, help="softens what is compared (default: 1)")

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, help="default: 5; builtin 10; from scratch 15")
    training.add_argument("--batch-size", type=int, default=16, help="default: 16")
    training.add_argument(
        "--learning-rate", type=float, help="peak (default: 5e-5; builtin 3e-4; adapters only and from scratch 5e-4)"
    )
    training.add_argument("--schedule", choices=("linear", "cosine"), default="cosine", help="decay (default: cosine)")
    training.add_argument("--warmup", type=float, default=0.1, help="share of the steps (default: 0.1)")
    training.add_argument("--weight-decay", type=float, default=0.01, help="not on biases and norms (default: 0.01)")
    training.add_argument("--clip-norm", type=float, default=1.0, help="of the gradient (default: 1.0)")
    training.add_argument("--seed", type=int, default=0, help="default: 0")
    training.add_argument("--mixed-precision", action="store_true", help="compute in bfloat16")
    training.add_argument("--xla", action="store_true", help="compile with XLA, once for each length of batch")
    add_strategy(parser.add_argument_group("several devices or machines (docs/workers.md)"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Trains, and prints the results."""
    with workers_of(arguments) as workers:
        results = _finetune(arguments, workers)
    if workers.is_chief:
        print(json.dumps(results) if arguments.json else f"\nwrote {arguments.output}")


def _finetune(arguments: argparse.Namespace, workers: "Workers") -> dict[str, Any]:
    from minialbert_tf.finetuning import Settings, finetune

    settings = Settings(
        task=arguments.task,
        data=arguments.data,
        model=arguments.model,
        size=arguments.size,
        vocab_size=arguments.vocab_size,
        lowercase=not arguments.cased,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        schedule=arguments.schedule,
        warmup=arguments.warmup,
        weight_decay=arguments.weight_decay,
        clip_norm=arguments.clip_norm,
        max_length=arguments.max_length,
        seed=arguments.seed,
        adapters_only=arguments.adapters_only,
        label_pieces=arguments.label_pieces,
        teacher=arguments.teacher,
        unlabelled=tuple(arguments.unlabelled),
        teacher_weight=arguments.teacher_weight,
        temperature=arguments.temperature,
        columns=(arguments.text_column, arguments.pair_column, arguments.label_column),
        mixed_precision=arguments.mixed_precision,
        xla=arguments.xla,
    )
    return finetune(
        settings,
        arguments.output,
        force=arguments.force,
        restart=arguments.restart,
        save_seconds=arguments.save_seconds,
        workers=workers,
    )

"""The command line `minialbert`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from minialbert_tf.errors import InputError
from minialbert_tf.native_logs import leave_stderr_to_python

COMMANDS = {
    "demo": "train a small model on a sample corpus, export it and tag unseen sentences",
    "tag": "find entities in texts",
    "finetune": "train a model for entities, or for classes or scores of texts",
    "distill": "teach a small recursive model what a BERT knows, from plain text",
    "evaluate": "score a model on labelled data",
    "port": "convert a checkpoint between PyTorch's and Keras's formats",
    "export": "write a model for phones",
    "benchmark": "measure the speed, memory and accuracy of .tflite files",
}


def program() -> int:
    """Runs as the installed program `minialbert`."""
    leave_stderr_to_python()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack a text's characters
        sys.stdout.reconfigure(errors="backslashreplace")
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 only on success, 2 for bad input."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except (InputError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"minialbert {parsed.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"minialbert {parsed.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minialbert",
        description="MiniALBERT for TensorFlow: find diseases, drugs and genes in text, offline and on a phone.",
        epilog="example: minialbert tag --model ner.tflite 'Naloxone reverses the effect of clonidine.'",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        import_module(f"minialbert_tf.commands.{name}").add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(program())

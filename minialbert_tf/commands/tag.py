"""`minialbert tag`."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import Any

from minialbert_tf.builtin import BUILTIN, TAGGER
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.tagger import Tagger

_EXAMPLES = """examples:
  minialbert tag "Naloxone reverses the antihypertensive effect of clonidine."
  minialbert tag --model ner.tflite "Selegiline-induced postural hypotension"
  minialbert tag --model ner.tflite --file notes.txt > entities.jsonl
  zcat abstracts.gz | minialbert tag --model ner.tflite --json | jq '.entities[].text'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("text", nargs="*", help="a text; without any, and without --file, each line of standard input")
    parser.add_argument(
        "--model",
        default=BUILTIN,
        help="a .tflite file, a checkpoint folder or a hub id (default: builtin, which finds chemicals and diseases)",
    )
    parser.add_argument("--file", type=Path, help="a UTF-8 file with one text per line")
    parser.add_argument("--json", action="store_true", help="JSON lines; the default where the output is no terminal")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a .tflite file (default: 1)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Tags texts as they come and prints each at once."""
    from minialbert_tf.highlight import highlight

    if arguments.text and arguments.file:
        raise InputError("Texts come from the command line or from --file, not from both.")
    as_json = arguments.json or (arguments.color != "always" and not sys.stdout.isatty())
    color = use_color(arguments.color)
    with open_tagger(arguments.model, arguments.threads) as tagger:
        texts, to_tag = tee(_texts(arguments))
        typed = not arguments.text and not arguments.file and sys.stdin.isatty()
        # The stream reads ahead, to fill batches; who types a line waits for its answer.
        results = map(tagger, to_tag) if typed else tagger.stream(to_tag)
        for text, entities in zip(texts, results, strict=True):
            if as_json:
                print(_json_line({"text": text, "entities": [entity.to_json() for entity in entities]}), flush=typed)
            else:
                print(highlight(text, entities, color=color), flush=typed)


def use_color(choice: str = "auto") -> bool:
    """Decides whether to colour: always, never, or on a terminal unless NO_COLOR (no-color.org) is set."""
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def open_tagger(model: str, threads: int = 1) -> Tagger:
    """Opens what `--model` names: "builtin", a .tflite file or a checkpoint."""
    path = TAGGER if model == BUILTIN else Path(model)
    if path.suffix == ".tflite":
        return Tagger.from_tflite(path, threads)
    return Tagger.from_pretrained(model)


def _json_line(value: Any) -> str:
    """Returns JSON in characters that standard output can take, which a lone surrogate (a stray byte) never is."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        line = json.dumps(value)
    return line


def _texts(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.text:
        yield from arguments.text
        return
    name = arguments.file or "standard input"
    with arguments.file.open("rb") if arguments.file else sys.stdin.buffer as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{name}:{number}: texts must be UTF-8 ({error.reason})") from None

"""`minialbert tag`."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minialbert_tf.builtin import BUILTIN
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.tagger import open_tagger

if TYPE_CHECKING:
    from minialbert_tf.pipelines.corpus import Corpus, Summary

_EXAMPLES = """examples:
  minialbert tag "Naloxone reverses the antihypertensive effect of clonidine."
  minialbert tag --model ner.tflite "Selegiline-induced postural hypotension"
  minialbert tag --model ner.tflite --file notes.txt > entities.jsonl
  zcat abstracts.gz | minialbert tag --model ner.tflite --json | jq '.entities[].text'
  minialbert tag --input 'abstracts/*.jsonl.gz' --output entities.jsonl
  minialbert tag --runner DirectRunner --input 'abstracts/*.jsonl.gz' --output entities.jsonl -- --direct_num_workers=4

With --input, each line of the files is a record: a text, or in .jsonl and .ndjson files an object with a "text" and, if
it has one, an "id". OUTPUT gets {"id", "text", "entities", ...} for each, in order; what cannot be tagged goes, with
the reason, to a file named after it (entities.errors.jsonl). If the run is stopped or killed, the same command goes on
where it was. With --runner, Apache Beam does it (pip install 'minialbert-tf[beam]'): in no order, and from the
beginning after a kill; what follows -- are Beam's own options.
"""
_CORPUS_OPTIONS = ("output", "runner", "format", "force", "restart")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("text", nargs="*", help="a text; without any, and without --file, each line of standard input")
    parser.add_argument(
        "--model",
        default=BUILTIN,
        help="a .tflite file, a SavedModel, a checkpoint folder or a hub id (default: builtin, which finds chemicals "
        "and diseases)",
    )
    parser.add_argument("--file", type=Path, help="a UTF-8 file with one text per line")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON: lines, the default where the output is no terminal; with --input the sums",
    )
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours (default: auto)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a .tflite file (default: 1)")
    parser.add_argument(
        "--workers", type=int, help="processes for --file and --input (default: as many as cores, for large files)"
    )
    _add_corpus(parser.add_argument_group("a whole corpus"))
    parser.set_defaults(run=run)


def _add_corpus(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--input", nargs="+", metavar="FILE", help="plain or gzipped files; patterns work")
    group.add_argument("--output", metavar="FILE", help="file of JSON lines to write")
    group.add_argument("--format", help="of --input: text, jsonl or auto, by a file's name (default: auto)")
    group.add_argument("--force", action="store_true", help="replace an existing output")
    group.add_argument("--restart", action="store_true", help="drop what a stopped run has left")
    group.add_argument("--runner", help="run on Apache Beam, such as DirectRunner (default: processes, without Beam)")


def run(arguments: argparse.Namespace) -> None:
    """Tags texts as they come and prints each at once, or a corpus into a file."""
    if arguments.input:
        _corpus(arguments)
        return
    extra = [f"--{name}" for name in _CORPUS_OPTIONS if getattr(arguments, name)]
    if extra:
        raise InputError(f"{extra[0]} must go with --input. Received: {extra[0]} alone")
    if arguments.text and arguments.file:
        raise InputError("Texts come from the command line or from --file, not from both.")
    if arguments.workers is not None and not arguments.file:
        raise InputError("--workers must go with --file or --input. Received: --workers alone")
    as_json = arguments.json or (arguments.color != "always" and not sys.stdout.isatty())
    if as_json and arguments.file and (workers := _workers(arguments)) > 1:
        _print_file(arguments, workers)
    else:
        _print(arguments, as_json)


def _print(arguments: argparse.Namespace, as_json: bool) -> None:
    from minialbert_tf.highlight import highlight

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


def _workers(arguments: argparse.Namespace) -> int:
    from minialbert_tf.pipelines.processes import Model, check_workers
    from minialbert_tf.pipelines.sources import workers_for

    if arguments.workers is not None:
        return check_workers(arguments.workers)
    return workers_for([arguments.file], Model(arguments.model, arguments.threads))


def _print_file(arguments: argparse.Namespace, workers: int) -> None:
    """Prints what `_print` does, tagged by several processes."""
    from minialbert_tf.pipelines.processes import Model, tag_blocks
    from minialbert_tf.pipelines.sources import blocks_of_texts

    blocks = blocks_of_texts(_texts(arguments), str(arguments.file))
    for _, result in tag_blocks(blocks, Model(arguments.model, arguments.threads), workers, with_ids=False):
        if result.errors:
            failure = json.loads(result.errors.split(b"\n")[0])
            raise DataError(f"{failure['source']}: {failure['error']}")
        for line in result.output.decode().split("\n")[:-1]:
            print(_json_line(json.loads(line)))


def _corpus(arguments: argparse.Namespace) -> None:
    from minialbert_tf.pipelines.corpus import Corpus
    from minialbert_tf.pipelines.processes import Model

    if not arguments.output:
        raise InputError("--input needs --output, the file to write. Received: none")
    if arguments.file or (arguments.text and not arguments.runner):
        raise InputError("Texts come from --input, or from --file, or from the command line, not from several.")
    corpus = Corpus(arguments.input, Model(arguments.model, arguments.threads), arguments.format or "auto")
    summary = _by_beam(arguments, corpus) if arguments.runner else _by_processes(arguments, corpus)
    summary.print(arguments.json)


def _by_processes(arguments: argparse.Namespace, corpus: "Corpus") -> "Summary":
    from minialbert_tf.pipelines.corpus import tag_corpus

    return tag_corpus(corpus, arguments.output, arguments.workers, arguments.force, arguments.restart)


def _by_beam(arguments: argparse.Namespace, corpus: "Corpus") -> "Summary":
    from minialbert_tf.pipelines.tag import tag_by_beam

    if arguments.restart:
        raise InputError("--restart must go without --runner: Beam begins anew by itself. Received: both")
    if arguments.workers is not None:
        raise InputError("--workers must go without --runner: see Beam's --direct_num_workers. Received: both")
    options = [f"--runner={arguments.runner}", *arguments.text]  # behind --
    return tag_by_beam(corpus, arguments.output, options, arguments.force)

"""`python -m minialbert_tf.pipelines.tag`: tags a corpus with Apache Beam, on any of its runners."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from minialbert_tf.builtin import BUILTIN
from minialbert_tf.errors import InputError
from minialbert_tf.native_logs import leave_stderr_to_python
from minialbert_tf.pipelines.corpus import Corpus, Summary
from minialbert_tf.pipelines.processes import Model
from minialbert_tf.pipelines.records import AUTO

_EXAMPLES = """examples:
  python -m minialbert_tf.pipelines.tag --input 'abstracts/*.jsonl.gz' --output entities.jsonl
  python -m minialbert_tf.pipelines.tag --model ner.tflite --input 'gs://…/*.jsonl' --output gs://…/entities.jsonl \\
      --runner DataflowRunner --project … --region … --temp_location gs://…/temp

Options that are not listed here are Beam's. Without --direct_num_workers DirectRunner uses all cores, by processes.
The entities go to entities-00000-of-00002.jsonl and so on, in no order; what cannot be tagged to entities.errors-….
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the pipeline and returns the exit status: 0 only on success, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m minialbert_tf.pipelines.tag",
        description="Find entities in the texts of files, by Apache Beam.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", default=BUILTIN, help="a .tflite file, a SavedModel or a checkpoint (default: builtin)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of a .tflite file in each process (default: 1)")
    parser.add_argument("--input", nargs="+", metavar="FILE", required=True, help="plain or gzipped; patterns work")
    parser.add_argument("--output", metavar="FILE", required=True, help="what the files to write are named after")
    parser.add_argument("--format", default=AUTO, help="of --input: text, jsonl or auto, by its name (default: auto)")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    parser.add_argument("--json", action="store_true", help="print the sums as one JSON object")
    own, options = parser.parse_known_args(arguments)
    try:
        corpus = Corpus(own.input, Model(own.model, own.threads), own.format)
        tag_by_beam(corpus, own.output, options, force=own.force).print(own.json)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    return 0


def tag_by_beam(corpus: Corpus, output: str, options: Sequence[str] = (), force: bool = False) -> Summary:
    """Does what `minialbert_tf.pipelines.beam_run.tag_by_beam` does, if Beam is there.

    Raises:
        InputError: If it is not.
    """
    with _quiet_logging():
        try:
            from minialbert_tf.pipelines import beam_run
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "apache_beam":
                raise
            raise InputError(
                f"A runner needs Apache Beam: pip install 'minialbert-tf[beam]'. Received: {error}"
            ) from error
    return beam_run.tag_by_beam(corpus, output, options, force)


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Discards warnings meanwhile: on import Beam warns of Google's clients, which only those miss who use them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    leave_stderr_to_python()
    sys.exit(main())

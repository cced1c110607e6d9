"""Tagging a corpus as a pipeline of Apache Beam, which the extra `beam` installs.

Files are planned as chunks, and the chunks spread over the workers, which read and tag them. What crosses from worker
to worker is only where a chunk begins and ends, so that memory does not grow with the corpus.
"""

import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import IO, Any, Final, cast

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.textio import WriteToText
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference

from minialbert_tf.pipelines.processes import Model
from minialbert_tf.pipelines.records import AUTO, Item, Line, Outcome, format_of, is_compressed, read_lines
from minialbert_tf.pipelines.sources import BLOCK_BYTES, BLOCK_LINES
from minialbert_tf.pipelines.tagging import Counts, tag_items, write_outcome
from minialbert_tf.tagger import Tagger

NAMESPACE: Final = "minialbert"
ERRORS: Final = "errors"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of a file.

    Attributes:
        path: The file.
        format: How to parse its lines.
        first: Number of the first line.
        offset: Where it begins, in bytes.
        lines: How many lines; None for all, in a file in which one cannot jump.
    """

    path: str
    format: str
    first: int = 1
    offset: int = 0
    lines: int | None = None


def plan_chunks(path: str, format: str = AUTO) -> Iterator[Chunk]:
    """Divides a file into chunks of about a second's work; one that is gzip-compressed is a single chunk."""
    format = format_of(path, format)
    with closing(_open(path)) as file:
        if is_compressed(file):
            yield Chunk(path, format)
            return
        chunk = Chunk(path, format)
        count = 0
        for count, _ in enumerate(read_lines(file, path, format), start=1):
            lines = count + 1 - chunk.first
            if lines >= BLOCK_LINES or file.tell() - chunk.offset >= BLOCK_BYTES:
                yield Chunk(path, format, chunk.first, chunk.offset, lines)
                chunk = Chunk(path, format, count + 1, file.tell())
        if count >= chunk.first:
            yield Chunk(path, format, chunk.first, chunk.offset, count + 1 - chunk.first)


def read_chunk(chunk: Chunk) -> Iterator[Item]:
    """Reads the lines of a chunk."""
    with closing(_open(chunk.path)) as raw:
        file = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_compressed(raw) else raw
        file.seek(chunk.offset)
        yield from islice(read_lines(file, chunk.path, chunk.format, chunk.first), chunk.lines)


def _open(path: str) -> IO[bytes]:
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@dataclass
class LoadedTagger:
    """A tagger that the threads of a worker share; they take turns.

    Attributes:
        tagger: The tagger.
        lock: Whose turn it is.
    """

    tagger: Tagger
    lock: threading.Lock


class TaggerHandler(ModelHandler[Item, Outcome, LoadedTagger]):
    """Runs a Tagger in `RunInference`: lines in, and for each either its entities or why there are none.

    A batch holds texts of any length. They are put into batches of one length, or buckets, where the network runs:
    the pieces are known there, and here only the characters.
    """

    def __init__(self, model: Model) -> None:
        """Takes what to load in each worker process."""
        super().__init__()
        self._model = model

    def load_model(self) -> LoadedTagger:
        """Opens the tagger."""
        return LoadedTagger(self._model.open(), threading.Lock())

    def run_inference(
        self, batch: Sequence[Item], model: LoadedTagger, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Outcome]:
        """Returns what becomes of each line, and counts the tokens."""
        with model.lock:
            before = model.tagger.token_count
            outcomes = tag_items(model.tagger, batch)
            Metrics.counter(NAMESPACE, "tokens").inc(model.tagger.token_count - before)
        return outcomes

    def get_num_bytes(self, batch: Sequence[Item]) -> int:
        """Returns the size of a batch, which Beam reports."""
        return sum(map(_size, batch))

    def get_metrics_namespace(self) -> str:
        """Returns the name under which Beam reports batches and latencies."""
        return NAMESPACE

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """Makes batches of as many lines or bytes as the blocks have that processes tag without Beam."""
        return {
            "min_batch_size": BLOCK_BYTES,
            "max_batch_size": BLOCK_BYTES,
            "element_size_fn": _batch_size,
        }


def _size(item: Item) -> int:
    return len(item.content) if isinstance(item, Line) else 0


def _batch_size(item: Item) -> int:
    return max(_size(item), BLOCK_BYTES // BLOCK_LINES)


class WriteOutcomes(beam.DoFn):
    """Turns outcomes into lines, those that are none into the side output `ERRORS`, and counts them."""

    def process(self, outcome: Outcome) -> Iterator[Any]:  # type: ignore[override]
        """Yields one line, in one of the outputs."""
        counts = Counts()
        written = write_outcome(outcome, counts)
        for name, value in asdict(counts).items():
            if value:
                Metrics.counter(NAMESPACE, name).inc(value)
        yield written.line if written.tagged else beam.pvalue.TaggedOutput(ERRORS, written.line)


class TagFiles(beam.PTransform):
    """Files in, lines of JSON out: `None` has those of records that were tagged, `ERRORS` the others."""

    def __init__(self, model: Model, format: str = AUTO) -> None:
        """Takes what tags, and the format of the files."""
        super().__init__()
        self._model = model
        self._format = format

    def expand(self, paths: Any) -> Any:
        """Takes the names of files, in any of Beam's file systems."""
        return (
            paths
            | "plan" >> beam.FlatMap(plan_chunks, self._format)
            | "spread" >> beam.Reshuffle()
            | "read" >> beam.FlatMap(read_chunk)
            | "tag" >> RunInference(TaggerHandler(self._model))
            | "write" >> beam.ParDo(WriteOutcomes()).with_outputs(ERRORS)
        )


def write_lines(prefix: str, suffix: str) -> WriteToText:
    """Returns what writes lines into PREFIX-00000-of-00002SUFFIX and so on, all of them at once at the end."""
    return WriteToText(prefix, suffix, append_trailing_newlines=False, coder=BytesCoder())

"""Tagging a corpus into one file by the cores of this machine: `minialbert tag --input … --output …`."""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from tqdm import tqdm

from minialbert_tf.builtin import BUILTIN, TAGGER
from minialbert_tf.config import read_json
from minialbert_tf.errors import DataError
from minialbert_tf.files import check_free, replacing, write_json
from minialbert_tf.pipelines.processes import Block, Model, check_workers, tag_blocks
from minialbert_tf.pipelines.records import AUTO
from minialbert_tf.pipelines.sources import check_format, distinct_files, read_blocks, workers_for
from minialbert_tf.pipelines.tagging import Counts, Result
from minialbert_tf.working_folder import locked, open_folder

_OUTPUT: Final = "output.jsonl"
_ERRORS: Final = "errors.jsonl"
_STATE: Final = "state.json"


@dataclass(frozen=True, slots=True)
class Corpus:
    """What to tag with what.

    Attributes:
        patterns: Names of files, and patterns such as "texts/**/*.jsonl.gz".
        model: What tags.
        format: "text", "jsonl" or "auto", by each file's name.
    """

    patterns: Sequence[str]
    model: Model
    format: str = AUTO


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to.

    Attributes:
        output: The file, or the pattern of the files, with the entities.
        errors: That of the records that could not be tagged.
        counts: What became of the corpus, parts before an interruption included.
        seconds: How long this run took, its start included.
        new: Records and tokens of this run alone.
    """

    output: str
    errors: str
    counts: Counts
    seconds: float
    new: Counts

    def to_json(self) -> dict[str, Any]:
        """Returns all figures for json."""
        return {
            "output": self.output,
            "errors_output": self.errors,
            **asdict(self.counts),
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.new.records / self.seconds, 2),
            "tokens_per_second": round(self.new.tokens / self.seconds, 1),
        }

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"wrote {self.output}: {counts.records:,} records, {counts.entities:,} entities, {counts.tokens:,} tokens; "
            f"{counts.errors:,} errors in {self.errors}\n"
            f"{self.seconds:.1f} s, {self.new.records / self.seconds:,.1f} records/s, "
            f"{self.new.tokens / self.seconds:,.0f} tokens/s"
        )

    def print(self, as_json: bool) -> None:
        """Prints the figures, for a program on standard output or else on standard error.

        Raises:
            DataError: If files could not be read to their end; all else is written by then.
        """
        print(json.dumps(self.to_json()) if as_json else self, file=sys.stdout if as_json else sys.stderr)
        if self.counts.unreadable:
            raise DataError(
                f"Every file must be readable to its end; all others were tagged. Received: {self.counts.unreadable} "
                f"damaged, see {self.errors}"
            )


def errors_path(output: Path) -> Path:
    """Returns where the errors go that belong to an output."""
    return output.with_name(f"{output.stem}.errors{output.suffix}")


def tag_corpus(
    corpus: Corpus,
    output: str | Path,
    workers: int | None = None,
    force: bool = False,
    restart: bool = False,
    save_seconds: float = 5.0,
) -> Summary:
    """Tags the records of files and writes one JSON line for each, in order; those that it cannot tag, beside it.

    While it runs, its state is in `<output>.partial`; if it is killed, the same call goes on from there, and the output
    is that of a run without interruption.

    Args:
        corpus: What to tag with what.
        output: File to write; the errors go to NAME.errors.SUFFIX beside it.
        workers: Number of processes; by default as many as there are cores, or one for few texts.
        force: Whether existing outputs are replaced.
        restart: Whether to drop what a killed run has left.
        save_seconds: How often the state is saved, and so how much a kill can cost at most.

    Raises:
        InputError: If corpus or model are not usable, the output is in use, or what was left is of another run.
        WorkerError: If a process dies.
    """
    started = time.monotonic()
    output = check_free(output, force)
    work = output.with_name(f"{output.name}.partial")
    check_free(errors_path(output), force or _Progress.restore(work).finished)  # a kill may have come between the two
    check_format(corpus.format)
    files = distinct_files(corpus.patterns)
    workers = workers_for(files, corpus.model) if workers is None else check_workers(workers)
    if work.is_dir():
        with locked(work):  # --restart must not take the folder of a run that is alive
            pass
    open_folder(work, _recorded(corpus, files), restart)
    with locked(work):
        progress, new = _complete(corpus, files, workers, work, save_seconds)
        _move(work / _ERRORS, errors_path(output))
        _move(work / _OUTPUT, output)  # last: where it is, all is
        shutil.rmtree(work)
    return Summary(str(output), str(errors_path(output)), progress.counts, time.monotonic() - started, new)


def _complete(
    corpus: Corpus, files: Sequence[Path], workers: int, work: Path, save_seconds: float
) -> tuple["_Progress", Counts]:
    """Does what is left of a run, and returns where it stands then and what was new."""
    progress = _Progress.restore(work)
    before = replace(progress.counts)
    if progress.lines:
        tqdm.write(f"resuming after {progress.lines:,} records", file=sys.stderr)
    if not progress.finished:
        try:
            _run(corpus, files, workers, _Writer(work, progress, save_seconds))
        except BaseException:
            if not progress.lines:  # a bad model, say: nothing to go on with
                shutil.rmtree(work)
            raise
    return progress, progress.counts.since(before)


def _recorded(corpus: Corpus, files: Sequence[Path]) -> dict[str, Any]:
    """Returns all that decides the output."""
    model = TAGGER if corpus.model.name == BUILTIN else Path(corpus.model.name)
    parts = sorted(path for path in model.rglob("*") if path.is_file()) if model.is_dir() else [model]
    return {
        "model": corpus.model.name,
        "format": corpus.format,
        "model_files": {str(path): _version(path) for path in parts if path.is_file()},
        "order": [str(path) for path in files],
        "files": {str(path): _version(path) for path in files},
    }


def _version(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _move(source: Path, target: Path) -> None:
    """Moves a file to its place, unless that was done before a kill."""
    if source.exists():
        source.replace(target)


def _run(corpus: Corpus, files: Sequence[Path], workers: int, writer: "_Writer") -> None:
    started = time.monotonic()
    before = writer.progress.counts.records
    size = sum(path.stat().st_size for path in files)
    blocks = read_blocks(files, corpus.format, skip=writer.progress.lines)
    with writer, tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        for block, result in tag_blocks(blocks, corpus.model, workers):
            writer.write(block, result)
            rate = (writer.progress.counts.records - before) / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.1f} records/s, {writer.progress.counts.errors} errors", refresh=False)
            bar.update(block.position - bar.n)


@dataclass(slots=True)
class _Progress:
    """How far a run has got.

    Attributes:
        lines: Lines of the corpus that are done.
        output_bytes: What of the output is valid.
        errors_bytes: What of the errors is valid.
        counts: What became of them.
        finished: Whether they are all.
    """

    lines: int = 0
    output_bytes: int = 0
    errors_bytes: int = 0
    counts: Counts = field(default_factory=Counts)
    finished: bool = False

    @classmethod
    def restore(cls, work: Path) -> "_Progress":
        path = work / _STATE
        if not path.is_file():
            return cls()
        saved = read_json(path)
        return cls(**{**saved, "counts": Counts(**saved["counts"])})

    def save(self, work: Path) -> None:
        with replacing(work / _STATE, force=True) as path:
            write_json(path, asdict(self))


class _Writer:
    """Appends to output and errors, and saves every now and then how much of them is valid."""

    def __init__(self, work: Path, progress: _Progress, save_seconds: float) -> None:
        """Takes the working folder and where it stands."""
        self.progress = progress
        self._work = work
        self._save_seconds = save_seconds

    def __enter__(self) -> "_Writer":
        self._output = _open_at(self._work / _OUTPUT, self.progress.output_bytes)
        self._errors = _open_at(self._work / _ERRORS, self.progress.errors_bytes)
        self._saved = time.monotonic()
        return self

    def write(self, block: Block, result: Result) -> None:
        """Writes what became of a block."""
        self._output.write(result.output)
        self._errors.write(result.errors)
        self.progress.lines += len(block.lines)
        self.progress.output_bytes += len(result.output)
        self.progress.errors_bytes += len(result.errors)
        self.progress.counts.add(result.counts)
        if time.monotonic() - self._saved >= self._save_seconds:
            self._save()

    def _save(self) -> None:
        for file in (self._output, self._errors):
            file.flush()
            os.fsync(file.fileno())
        self.progress.save(self._work)
        self._saved = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.finished = kind is None
        with self._output, self._errors:
            if kind is None:
                self._save()
                return
            with suppress(OSError):  # the error that is under way says more, and the last state is good
                self._save()


def _open_at(path: Path, size: int) -> IO[bytes]:
    """Opens a file to go on after its first `size` bytes; a kill may have left more."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file

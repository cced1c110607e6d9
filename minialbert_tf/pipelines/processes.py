"""Tagging blocks of lines by several processes: results in the order of the blocks, and few of them in memory.

The processes are started anew (spawned), because a fork of a process with threads may hang. So a program that calls
this needs the usual `if __name__ == "__main__":` around what it does.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from minialbert_tf.builtin import BUILTIN
from minialbert_tf.errors import InputError, WorkerError
from minialbert_tf.pipelines.records import Item
from minialbert_tf.pipelines.tagging import Result, tag_lines
from minialbert_tf.tagger import Tagger, open_tagger

_WAITING_PER_WORKER: Final = 8  # blocks; more than one, so that a long text does not keep the other workers waiting


@dataclass(frozen=True, slots=True)
class Model:
    """What tags.

    Attributes:
        name: "builtin", a .tflite file, a SavedModel, or a checkpoint.
        threads: Threads of a .tflite file, in each process.
    """

    name: str
    threads: int = 1

    def open(self) -> Tagger:
        """Opens it."""
        return open_tagger(self.name, self.threads)

    @property
    def is_light(self) -> bool:
        """Whether it runs without TensorFlow, and is soon open."""
        return self.name == BUILTIN or self.name.endswith(".tflite")

    def default_workers(self) -> int:
        """Returns how many processes make use of this machine: TensorFlow uses all cores by itself."""
        return max(1, available_cores() // max(self.threads, 1)) if self.is_light else 1


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that are tagged together.

    Attributes:
        lines: The lines.
        position: Bytes of the corpus that are read when they are.
    """

    lines: Sequence[Item]
    position: int


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int) -> int:
    """Returns the number of processes.

    Raises:
        InputError: If there is none.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1. Received: {workers}")
    return workers


def tag_blocks(
    blocks: Iterable[Block], model: Model, workers: int, with_ids: bool = True
) -> Iterator[tuple[Block, Result]]:
    """Tags blocks by processes of their own, or for one worker in this process.

    Args:
        blocks: The blocks, read no further ahead than the workers need.
        model: What tags.
        workers: Number of processes.
        with_ids: Whether lines of output have the records' ids.

    Yields:
        Each block with its result, in order.

    Raises:
        InputError: If the model cannot be opened.
        WorkerError: If a process dies.
    """
    if workers == 1:
        with model.open() as tagger:
            for block in blocks:
                yield block, tag_lines(tagger, block.lines, with_ids)
        return
    waiting: deque[tuple[Block, Future[Result]]] = deque()
    try:
        with _processes(workers, model) as pool:
            for block in blocks:
                waiting.append((block, pool.submit(_tag, block.lines, with_ids)))
                if len(waiting) >= workers * _WAITING_PER_WORKER:
                    yield waiting[0][0], waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][0], waiting[0][1].result()
                waiting.popleft()
    except BrokenProcessPool:
        where = waiting[0][0].lines[0].source if waiting else "the start"
        raise WorkerError(
            "Every worker process must live to its end; one was killed, perhaps for lack of memory (fewer --workers "
            f"need less). Received: its death at {where} or soon after"
        ) from None


@contextmanager
def _processes(workers: int, model: Model) -> Iterator[ProcessPoolExecutor]:
    """Gives processes that end with the block, or when this process dies, whatever they are doing."""
    context = multiprocessing.get_context("spawn")
    lifeline, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (lifeline, model))
    try:
        yield pool
    except BaseException:
        ours.close()  # nobody waits for a long text
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        lifeline.close()


_model: Model | None = None
_tagger: Tagger | None = None


def _begin(lifeline: Connection, model: Model) -> None:
    global _model
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the first one ends the others
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _model = model


def _end_with(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)


def _tag(lines: Sequence[Item], with_ids: bool) -> Result:
    global _tagger
    if _tagger is None:  # opened by the first block, because an error here reaches the caller
        assert _model is not None
        _tagger = _model.open()
    return tag_lines(_tagger, lines, with_ids)

"""Windows of pieces cut from a corpus of any size, as an endless stream that can be entered anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from minialbert_tf.data.corpus import read_documents
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.tokenization import WordPieceTokenizer

_CHUNK_DOCUMENTS = 256
_CHUNK_CHARACTERS = 1_000_000
_SHUFFLED_WINDOWS = 16_384


@dataclass(frozen=True)
class WindowPlan:
    """How documents become windows.

    Attributes:
        length: Longest window, [CLS] and [SEP] included.
        stride: Pieces from the start of a window to that of the next; a last window that would stick out begins
            earlier instead.
        packed: Whether windows are filled to the brim with one document after another, without regard to `stride`.
        per_document: Most windows of a document in one pass, chosen anew in each; None: all.

    Raises:
        InputError: If a value is out of its range.
    """

    length: int = 256
    stride: int = 128
    packed: bool = False
    per_document: int | None = None

    def __post_init__(self) -> None:
        rules = {
            "length": (self.length >= 8, "at least 8"),
            "stride": (self.packed or 0 < self.stride <= self.length - 2, "from 1 to the length less 2"),
            "per_document": (self.per_document is None or self.per_document >= 1, "at least 1"),
        }
        for name, (valid, rule) in rules.items():
            if not valid:
                raise InputError(f"The windows' {name} must be {rule}. Received: {getattr(self, name)}")


class Windows:
    """An endless stream of windows of a corpus, whose order only the seed decides.

    Each pass over the corpus reads its files anew and shuffles within a buffer, so that memory holds only that.

    Attributes:
        plan: How documents are cut.
    """

    def __init__(
        self,
        files: Sequence[Path],
        tokenizer: WordPieceTokenizer,
        plan: WindowPlan,
        separator: str = "line",
        seed: int = 0,
        buffer: int = _SHUFFLED_WINDOWS,
    ) -> None:
        """Takes the files, how to cut them, and the number of windows among which the next one is drawn."""
        self._files = files
        self._tokenizer = tokenizer
        self.plan = plan
        self._separator = separator
        self._seed = seed
        self._buffer = buffer

    def stream(self, first: int = 0) -> Iterator[np.ndarray]:
        """Yields the piece ids of one window after the other, from window number `first` on, without end.

        Starting late costs at most two passes of reading: all passes are equally long.

        Raises:
            DataError: If a file is not readable as text, the corpus is empty, or the vocabulary knows no word of it.
        """
        count, known = 0, False
        nothing = (self._tokenizer.cls_id, self._tokenizer.sep_id, self._tokenizer.unk_id)
        for window in self._pass(0):
            known = known or not np.isin(window, nothing).all()
            if count >= first:
                yield window
            count += 1
        if not known:
            rule = "hold some text" if count == 0 else "have words that the vocabulary knows"
            raise DataError(f"A corpus must {rule}. Received: {', '.join(map(str, self._files))}")
        number, skipped = max(first // count, 1), first % count if first >= count else 0
        while True:
            yield from islice(self._pass(number), skipped, None)
            number, skipped = number + 1, 0

    def _pass(self, number: int) -> Iterator[np.ndarray]:
        random = np.random.default_rng((self._seed, number))
        buffer: list[np.ndarray] = []
        for window in self._cut(random):
            if len(buffer) < self._buffer:
                buffer.append(window)
                continue
            drawn = random.integers(len(buffer))
            buffer[drawn], window = window, buffer[drawn]
            yield window
        for index in random.permutation(len(buffer)):
            yield buffer[index]

    def _cut(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        tokenizer, capacity = self._tokenizer, self.plan.length - 2

        def framed(pieces: np.ndarray) -> np.ndarray:
            return np.concatenate([[tokenizer.cls_id], pieces, [tokenizer.sep_id]], dtype=np.int32)

        rest = np.empty(0, np.int32)
        for pieces in self._documents():
            if not self.plan.packed:
                for start in self._starts(len(pieces), random):
                    yield framed(pieces[start : start + capacity])
                continue
            rest = np.concatenate([rest, pieces])
            while len(rest) >= capacity:
                yield framed(rest[:capacity])
                rest = rest[capacity:]
        if len(rest):  # the last window of a pass is not full
            yield framed(rest)

    def _starts(self, length: int, random: np.random.Generator) -> list[int]:
        """Returns where the windows of a document of `length` pieces begin."""
        last = max(length - self.plan.length + 2, 0)
        starts = [*range(0, last, self.plan.stride), last]
        most = self.plan.per_document
        if most is None or len(starts) <= most:
            return starts
        return sorted(random.choice(starts, most, replace=False).tolist())

    def _documents(self) -> Iterator[np.ndarray]:
        """Yields the pieces of each document that has some."""
        chunk: list[str] = []
        size = 0
        for document in read_documents(self._files, self._separator):
            chunk.append(document)
            size += len(document)
            if len(chunk) == _CHUNK_DOCUMENTS or size > _CHUNK_CHARACTERS:
                yield from self._encode(chunk)
                chunk, size = [], 0
        yield from self._encode(chunk)

    def _encode(self, documents: list[str]) -> Iterator[np.ndarray]:
        for pieces in self._tokenizer.encode_batch(documents):
            if pieces.ids:
                yield np.array(pieces.ids, np.int32)

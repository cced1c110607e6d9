"""From text to entities."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, overload

import numpy as np

from minialbert_tf.builtin import BUILTIN, TAGGER
from minialbert_tf.errors import CheckpointError, InputError
from minialbert_tf.ner import decode_spans
from minialbert_tf.tokenization import Pieces, WordPieces, WordPieceTokenizer
from minialbert_tf.windows import plan_windows

OUTSIDE = "O"
_WINDOWS_AT_ONCE = 256  # enough to fill batches of every length; bounds the logits held


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention found in a text.

    Attributes:
        text: The mention, `original[start:end]`.
        label: Its type, such as "Disease".
        start: Its first code point in the text.
        end: The code point after its last.
        score: Mean probability of its words' labels, between 0 and 1.
    """

    text: str
    label: str
    start: int
    end: int
    score: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a dict that json can write."""
        return dataclasses.asdict(self)


class Runtime(Protocol):
    """What runs the network: LiteRT on a .tflite file, or a Keras model.

    Attributes:
        max_length: Longest sequence it takes, [CLS] and [SEP] included.
    """

    max_length: int

    def predict(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Returns float32 logits (length, labels) for each sequence of piece ids, [CLS] and [SEP] included."""

    def close(self) -> None:
        """Frees what it holds."""


class Tagger:
    """Finds entities in texts of any length.

    1. The text is split into words (BERT's whitespace and punctuation splitting) and these into pieces.
    2. Where they exceed the model, the pieces are cut into overlapping windows (`minialbert_tf.windows.plan_windows`),
       each between [CLS] and [SEP]; the logits of a piece are those from the window that owns it.
    3. A word's label is the argmax at its first piece, its score the softmax probability of that label.
    4. Words are merged into entities by IOB2, leniently: I-X that does not continue an X opens one.
    5. An entity reaches from its first word's start to its last word's end, in code points of the text as given; its
       score is the mean of its words' scores.

    Control characters and the like, which BERT drops, may lie inside an entity but not at the ends of its words.

    Attributes:
        tokenizer: The tokenizer.
        labels: IOB2 label names by id.
        token_count: Pieces of all texts that it has tagged so far.
    """

    def __init__(
        self,
        tokenizer: WordPieceTokenizer | None = None,
        labels: Sequence[str] = (),
        runtime: Runtime | None = None,
    ) -> None:
        """Puts a tagger together; mostly `from_tflite` or `from_pretrained` do.

        Args:
            tokenizer: The tokenizer that the model was trained with.
            labels: IOB2 label names by id.
            runtime: What runs the model. Without it, it is the tagger for chemicals and diseases that comes with the
                package (`minialbert_tf.builtin.TAGGER`), tokenizer and labels included.

        Raises:
            InputError: If the labels are not "O" and, for types X, "B-X" and "I-X".
        """
        if tokenizer is None or runtime is None:
            tokenizer, labels, runtime = _read_tflite(TAGGER, threads=1)
        self.tokenizer = tokenizer
        self.labels = checked_labels(labels)
        self.token_count = 0
        self._runtime = runtime
        self._capacity = runtime.max_length - 2

    @classmethod
    def from_tflite(cls, path: str | Path, threads: int = 1) -> "Tagger":
        """Loads a .tflite file that `minialbert export tflite` wrote; needs no tensorflow.

        Raises:
            InputError: If the file is damaged, is none of ours, or its model does not label tokens.
        """
        return cls(*_read_tflite(path, threads))

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path) -> "Tagger":
        """Loads a checkpoint of a MiniALBERT or a BERT, with its tokenizer, as a Keras model.

        Raises:
            InputError: If the checkpoint or the tokenizer cannot be read, or the labels are not IOB2.
        """
        from minialbert_tf.keras_runtime import KerasRuntime
        from minialbert_tf.teacher import token_classifier_class

        model = token_classifier_class(path_or_hub_id).from_pretrained(path_or_hub_id)
        if model.tokenizer is None:
            raise CheckpointError(f"The checkpoint must have its tokenizer beside it. Received: {path_or_hub_id}")
        return cls(model.tokenizer, model.config.labels, KerasRuntime(model))

    @classmethod
    def from_saved_model(cls, folder: str | Path) -> "Tagger":
        """Loads a SavedModel that `minialbert export saved-model` wrote, without a server; needs tensorflow-text.

        Args:
            folder: NAME/VERSION, or NAME for the newest version.

        Raises:
            InputError: If it is none of ours, is damaged, or its model does not label tokens.
        """
        from minialbert_tf.saved_model_runtime import SavedModelRuntime

        runtime = SavedModelRuntime(folder)
        return cls(runtime.tokenizer, runtime.labels, runtime)

    @overload
    def __call__(self, text: str) -> list[Entity]: ...

    @overload
    def __call__(self, text: list[str] | tuple[str, ...]) -> list[list[Entity]]: ...

    def __call__(self, text: str | list[str] | tuple[str, ...]) -> list[Entity] | list[list[Entity]]:
        """Returns the entities of a text in order, or of each text of a list.

        Raises:
            InputError: If `text` is neither a string nor a list of strings.
        """
        if isinstance(text, str):
            return next(self.stream([text]))
        if not isinstance(text, list | tuple):
            raise InputError(f"The text must be a string or a list of strings. Received: {type(text).__name__}")
        return list(self.stream(text))

    def stream(self, texts: Iterable[str]) -> Iterator[list[Entity]]:
        """Yields the entities of one text after the other, reading ahead no further than a batch needs.

        Raises:
            InputError: If one of the texts is not a string.
        """
        batch: list[tuple[str, Pieces]] = []
        waiting = 0
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"A text must be a string. Received: {type(text).__name__}")
            pieces = self.tokenizer.encode(text)
            batch.append((text, pieces))
            waiting += len(plan_windows(len(pieces.ids), self._capacity))
            if waiting >= _WINDOWS_AT_ONCE:
                yield from self._tag(batch)
                batch, waiting = [], 0
        yield from self._tag(batch)

    def label_pieces(self, sentences: Sequence[Sequence[str]]) -> list[tuple[WordPieces, np.ndarray]]:
        """Returns, for sentences that are split into words, their pieces and the label id of each piece, int64.

        Word tags (`word_tags`) and scores on pieces both follow from this one pass.
        """
        pieces = [self.tokenizer.encode_words(words) for words in sentences]
        logits = self._logits([sentence.ids for sentence in pieces])
        return [(sentence, values.argmax(axis=-1)) for sentence, values in zip(pieces, logits, strict=True)]

    def word_tags(self, pieces: WordPieces, label_ids: np.ndarray) -> list[str]:
        """Returns the tag of each corpus word: the label of its first piece, "O" if it has none."""
        tags = [OUTSIDE] * pieces.word_count
        for word, first, label_id in zip(pieces.words, pieces.first_of_word, label_ids, strict=True):
            if first:
                tags[word] = self.labels[label_id]
        return tags

    def tag_words(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Returns one tag for each word of sentences that are split into words, as corpora are."""
        return [self.word_tags(pieces, label_ids) for pieces, label_ids in self.label_pieces(sentences)]

    def close(self) -> None:
        """Frees the model; the tagger cannot be used afterwards."""
        self._runtime.close()

    def __enter__(self) -> "Tagger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _tag(self, batch: list[tuple[str, Pieces]]) -> Iterator[list[Entity]]:
        logits = self._logits([pieces.ids for _, pieces in batch])
        for (text, pieces), values in zip(batch, logits, strict=True):
            entities = self._entities(text, pieces, values)
            self.token_count += len(pieces.ids)
            yield entities

    def _logits(self, texts: list[list[int]]) -> list[np.ndarray]:
        """Returns the logits (pieces, labels) of each text's pieces, each from the window that owns it."""
        plans = [plan_windows(len(ids), self._capacity) for ids in texts]
        tokenizer = self.tokenizer
        outputs = iter(
            self._runtime.predict(
                [
                    [tokenizer.cls_id, *ids[window.start : window.end], tokenizer.sep_id]
                    for ids, plan in zip(texts, plans, strict=True)
                    for window in plan
                ]
            )
        )
        logits = []
        for plan in plans:
            parts = [np.zeros((0, len(self.labels)), np.float32)]
            for window in plan:
                first = window.own_start - window.start + 1  # after [CLS]
                parts.append(next(outputs)[first : first + window.own_end - window.own_start])
            logits.append(np.concatenate(parts))
        return logits

    def _entities(self, text: str, pieces: Pieces, logits: np.ndarray) -> list[Entity]:
        firsts = [i for i, word in enumerate(pieces.word_ids) if i == 0 or word != pieces.word_ids[i - 1]]
        lasts = [*(i - 1 for i in firsts[1:]), len(pieces.ids) - 1]
        label_ids, scores = _decide(logits[firsts])
        entities = []
        for span in decode_spans([self.labels[label_id] for label_id in label_ids]):
            start = pieces.offsets[firsts[span.start]][0]
            end = pieces.offsets[lasts[span.end - 1]][1]
            score = float(np.mean(scores[span.start : span.end]))
            entities.append(Entity(text[start:end], span.label, start, end, score))
        return entities


def _decide(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the argmax and its softmax probability, float64, along the last axis of (words, labels)."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return logits.argmax(axis=-1), 1.0 / np.exp(shifted).sum(axis=-1)


def checked_labels(labels: Sequence[str]) -> list[str]:
    """Returns the labels of a tagger by id.

    Raises:
        InputError: If they are not "O" and, for types X, "B-X" and "I-X".
    """
    labels = list(labels)
    valid = all(label == OUTSIDE or (label[:2] in ("B-", "I-") and len(label) > 2) for label in labels)
    if not valid or OUTSIDE not in labels or len(set(labels)) < len(labels):
        raise InputError(f"Labels must be IOB2: O, and B-X and I-X for types X, each once. Received: {labels}")
    return labels


def open_tagger(model: str | Path, threads: int = 1) -> Tagger:
    """Opens what `--model` names: "builtin", a .tflite file, a SavedModel or a checkpoint.

    Raises:
        InputError: If it is none of these, or damaged.
    """
    if model == BUILTIN:
        return Tagger.from_tflite(TAGGER, threads)
    path = Path(model)
    if path.suffix == ".tflite":
        return Tagger.from_tflite(path, threads)
    if any(path.glob("saved_model.pb")) or any(path.glob("[0-9]*/saved_model.pb")):
        return Tagger.from_saved_model(path)
    return Tagger.from_pretrained(model)


def _read_tflite(path: str | Path, threads: int) -> tuple[WordPieceTokenizer, Sequence[str], Runtime]:
    from minialbert_tf.export.bundle import read_bundle
    from minialbert_tf.litert_runtime import LiteRTRuntime

    bundle = read_bundle(path)
    if bundle.card.task != "token-classification":
        raise InputError(f"The model must be for token-classification. Received: {path} for {bundle.card.task}")
    return bundle.tokenizer, checked_labels(bundle.card.labels), LiteRTRuntime(bundle, threads)

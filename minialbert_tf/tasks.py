"""What fine-tuning can be for: each task reads its data, builds training examples and scores a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from minialbert_tf.data.batching import Example
from minialbert_tf.data.conll import Sentence, check_labels, label_names, read_ner_folder
from minialbert_tf.data.features import (
    LABEL_PIECES,
    text_examples,
    token_examples,
    unlabelled_text_examples,
    unlabelled_token_examples,
)
from minialbert_tf.data.tables import Row, class_names, read_table_folder
from minialbert_tf.distillation.task import TEACHER_LABEL
from minialbert_tf.errors import DataError, InputError
from minialbert_tf.evaluation import TaggerReport, evaluate_tagger
from minialbert_tf.keras_runtime import KerasRuntime
from minialbert_tf.models import MiniAlbertForSequenceClassification, MiniAlbertForTokenClassification
from minialbert_tf.pretrained import PretrainedModel
from minialbert_tf.tagger import Tagger
from minialbert_tf.teacher import is_bert, token_classifier_class
from minialbert_tf.text_evaluation import TextReport, check_classes, evaluate_texts
from minialbert_tf.training import say

if TYPE_CHECKING:
    from minialbert_tf.finetuning import Settings


class Task(Protocol):
    """What `finetune` asks of a task; `parts` holds "train" and, as far as there are, "dev" and "test"."""

    parts: dict[str, Any]
    labels: list[str]
    model_class: Any
    config_changes: dict[str, Any]

    def texts(self) -> Iterable[str]:
        """Returns the texts of the training part, to learn a vocabulary from."""

    def checkpoint_class(self, path_or_hub_id: str) -> type[PretrainedModel]:
        """Returns the class of the models that a checkpoint is loaded as."""

    def examples(self, rows: Any, model: Any) -> list[Example]:
        """Returns training examples."""

    def unlabelled(self, texts: Iterable[str], model: Any) -> Iterator[Example]:
        """Returns raw texts as examples that only a teacher labels."""

    def reporter(self, model: Any) -> Callable[[Any], Any]:
        """Returns a function from a part of the data to a report with `to_json()` and a readable `str()`."""

    def score(self, report: Any) -> float:
        """Returns the one figure of a report by which the best epoch is chosen; higher is better."""


class NerTask:
    """Named entity recognition on CoNLL files with IOB tags."""

    model_class = MiniAlbertForTokenClassification

    def __init__(self, settings: Settings) -> None:
        """Reads the corpus and checks that dev and test use the labels of train."""
        if settings.label_pieces not in LABEL_PIECES:
            raise InputError(f"label_pieces must be one of {LABEL_PIECES}. Received: {settings.label_pieces!r}")
        self._settings = settings
        self.parts: dict[str, list[Sentence]] = read_ner_folder(Path(settings.data))
        _check_parts(self.parts, settings)
        self.labels = label_names(self.parts["train"])
        for name in self.parts.keys() - {"train"}:
            check_labels(self.parts[name], self.labels, Path(settings.data) / f"{name}.tsv")
        self.config_changes: dict[str, Any] = {}

    def texts(self) -> Iterable[str]:
        """Returns the training sentences."""
        return (" ".join(sentence.words) for sentence in self.parts["train"])

    def examples(self, rows: Sequence[Sentence], model: Any) -> list[Example]:
        """Returns the sentences as examples with a label for each piece."""
        settings = self._settings
        return token_examples(rows, model.tokenizer, self.labels, settings.max_length, settings.label_pieces)

    def checkpoint_class(self, path_or_hub_id: str) -> type[PretrainedModel]:
        """Returns the token classifier of a MiniALBERT or of a BERT."""
        return token_classifier_class(path_or_hub_id)

    def unlabelled(self, texts: Iterable[str], model: Any) -> Iterator[Example]:
        """Returns raw texts as examples with `TEACHER_LABEL` where words begin."""
        return unlabelled_token_examples(texts, model.tokenizer, self._settings.max_length, TEACHER_LABEL)

    def reporter(self, model: Any) -> Callable[[Sequence[Sentence]], TaggerReport]:
        """Scores the model as the tagger that it will be."""
        tagger = Tagger(model.tokenizer, self.labels, KerasRuntime(model))
        return lambda rows: evaluate_tagger(tagger, rows, self._settings.label_pieces)

    def score(self, report: TaggerReport) -> float:
        """Returns the entity F1."""
        return report.entities.micro.f1


class _TextTask:
    """Sentences or pairs of sentences from tables."""

    model_class = MiniAlbertForSequenceClassification
    regression = False
    labels: list[str]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        text, pair, label = settings.columns
        self.parts: dict[str, list[Row]] = read_table_folder(
            Path(settings.data), text, pair, label, regression=self.regression
        )
        _check_parts(self.parts, settings)

    def texts(self) -> Iterable[str]:
        """Returns the training texts."""
        return (text for row in self.parts["train"] for text in (row.text, row.pair) if text is not None)

    def examples(self, rows: Sequence[Row], model: Any) -> list[Example]:
        """Returns the texts as examples; says how many had to be shortened."""
        max_length = self._settings.max_length
        class_ids = None if self.regression else {label: number for number, label in enumerate(self.labels)}
        examples, shortened = text_examples(rows, model.tokenizer, class_ids, max_length)
        if shortened:
            say(f"{shortened} of {len(rows)} texts are cut at {max_length} pieces (--max-length)")
        return examples

    def checkpoint_class(self, path_or_hub_id: str) -> type[PretrainedModel]:
        """Returns the sequence classifier of a MiniALBERT.

        Raises:
            InputError: If it is a BERT's checkpoint.
        """
        if is_bert(path_or_hub_id):
            raise InputError(f"Texts are classified by MiniALBERTs, not by BERTs. Received: {path_or_hub_id}")
        return MiniAlbertForSequenceClassification

    def unlabelled(self, texts: Iterable[str], model: Any) -> Iterator[Example]:
        """Returns raw texts as examples with `TEACHER_LABEL`."""
        return unlabelled_text_examples(texts, model.tokenizer, self._settings.max_length, TEACHER_LABEL)

    def reporter(self, model: Any) -> Callable[[Sequence[Row]], TextReport]:
        """Scores the model on texts as long as those it was trained on."""
        return lambda rows: evaluate_texts(model, rows, self.regression, self._settings.max_length)


class ClassificationTask(_TextTask):
    """Classes of sentences or pairs of sentences."""

    def __init__(self, settings: Settings) -> None:
        """Reads the tables and checks that dev and test use the classes of train."""
        super().__init__(settings)
        self.labels = class_names(self.parts["train"])
        self.config_changes = {"problem_type": "single_label_classification"}
        for name, rows in self.parts.items():
            check_classes(rows, self.labels, Path(settings.data) / f"{name}.tsv")

    def score(self, report: TextReport) -> float:
        """Returns the accuracy."""
        return report.scores["accuracy"]


class RegressionTask(_TextTask):
    """Numbers for sentences or pairs of sentences."""

    regression = True

    def __init__(self, settings: Settings) -> None:
        """Reads the tables."""
        super().__init__(settings)
        self.labels = ["score"]
        self.config_changes = {"problem_type": "regression"}

    def score(self, report: TextReport) -> float:
        """Returns the negative mean squared error."""
        return -report.scores["mse"]


TASKS: dict[str, Callable[[Settings], Task]] = {
    "ner": NerTask,
    "classification": ClassificationTask,
    "regression": RegressionTask,
}


def _check_parts(parts: dict[str, Any], settings: Settings) -> None:
    if "train" not in parts:
        raise DataError(f"Fine-tuning needs train.tsv. Received: {settings.data} with {', '.join(parts)}")

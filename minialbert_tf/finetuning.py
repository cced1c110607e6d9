"""Fine-tuning for entity recognition and for classification or regression of texts: the whole run."""

import dataclasses
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow import keras

from minialbert_tf.builtin import BUILTIN
from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.data.batching import BatchedExamples, Example
from minialbert_tf.data.conll import part_files
from minialbert_tf.data.corpus import find_files, read_documents
from minialbert_tf.distillation.task import TaskDistillationLoss, TaughtExamples
from minialbert_tf.errors import InputError
from minialbert_tf.files import check_free, replacing, write_json
from minialbert_tf.models import PretrainedModel
from minialbert_tf.tasks import TASKS, Task
from minialbert_tf.tokenization import WordPieceTokenizer
from minialbert_tf.training import (
    SCHEDULES,
    Epoch,
    Trainer,
    WarmupSchedule,
    computing_in_bfloat16,
    make_optimizer,
    say,
)
from minialbert_tf.workers import ALONE, Workers
from minialbert_tf.working_folder import open_folder

SCRATCH = "scratch"
RESULTS_FILE = "results.json"
_PATHS = ("data", "model", "teacher", "unlabelled")  # may differ from machine to machine; what they hold may not

# Sizes of models that are trained from nothing; "full" is that of nlpie/miniALBERT-128.
SIZES: dict[str, dict[str, Any]] = {
    name: {
        "embedding_size": embedding,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": recursions,
    }
    for name, embedding, hidden, heads, recursions in (
        ("tiny", 64, 128, 4, 3),
        ("small", 128, 256, 4, 4),
        ("full", 128, 768, 12, 6),
    )
}
# Defaults by what is trained; those of "full", a pre-trained model, are the original's.
LEARNING_RATES = {SCRATCH: 5e-4, BUILTIN: 3e-4, "full": 5e-5, "adapters": 5e-4}
EPOCHS = {SCRATCH: 15, BUILTIN: 10, "full": 5, "adapters": 5}


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a run; the defaults are the original's recipe (design of MiniALBERT, section 4).

    Attributes:
        task: A key of `minialbert_tf.tasks.TASKS`.
        data: Folder with train.tsv and, as far as there are, dev.tsv and test.tsv.
        model: "builtin", the encoder that comes with the package; a checkpoint folder or hub id; or "scratch" for a
            new model with a vocabulary learned from train.tsv.
        size: Of a model from scratch, a key of `SIZES`.
        vocab_size: Most pieces of a vocabulary from scratch.
        lowercase: Whether a vocabulary from scratch is uncased.
        epochs: Passes over train.tsv; None takes the default of `EPOCHS`.
        batch_size: Sequences in a batch.
        learning_rate: Its peak; None takes the default of `LEARNING_RATES`.
        schedule: "linear" or "cosine" decay.
        warmup: Share of all steps in which the learning rate rises.
        weight_decay: AdamW's, not applied to biases and LayerNorm.
        clip_norm: Largest global norm of the gradient.
        max_length: Longest sequence, [CLS] and [SEP] included.
        seed: Of initial weights, dropout and the order of the data.
        adapters_only: Whether only adapters and head are trained.
        label_pieces: "first" or "all", see `token_examples`.
        teacher: A fine-tuned model for the same labels, whose logits join the loss, see `TaskDistillationLoss`; None:
            none.
        unlabelled: Names and patterns of plain text files, a text a line, which only the teacher labels.
        teacher_weight: The teacher's share of the loss where there is a label.
        temperature: Softens the distributions that student and teacher are compared by.
        columns: Names of the text, pair and label columns of a classification table; pair may be None.
        mixed_precision: Whether to compute in bfloat16, see `computing_in_bfloat16`.
        xla: Whether to compile with XLA, once for each length of batch.
    """

    task: str
    data: str
    model: str = BUILTIN
    size: str = "small"
    vocab_size: int = 8000
    lowercase: bool = True
    epochs: int | None = None
    batch_size: int = 16
    learning_rate: float | None = None
    schedule: str = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    max_length: int = 256
    seed: int = 0
    adapters_only: bool = False
    label_pieces: str = "first"
    teacher: str | None = None
    unlabelled: tuple[str, ...] = ()
    teacher_weight: float = 0.5
    temperature: float = 1.0
    columns: tuple[str, str | None, str] = ("sentence", None, "label")
    mixed_precision: bool = False
    xla: bool = False

    def with_defaults(self) -> "Settings":
        """Returns the settings with the defaults for what is trained filled in."""
        kind = "adapters" if self.adapters_only else self.model if self.model in (SCRATCH, BUILTIN) else "full"
        rate = LEARNING_RATES[kind] if self.learning_rate is None else self.learning_rate
        epochs = EPOCHS[kind] if self.epochs is None else self.epochs
        return dataclasses.replace(self, learning_rate=rate, epochs=epochs)


def finetune(
    settings: Settings,
    output: str | Path,
    force: bool = False,
    restart: bool = False,
    save_seconds: float = 60.0,
    workers: Workers = ALONE,
) -> dict[str, Any]:
    """Trains a model and writes the epoch that is best on dev, as a checkpoint with results.json, to `output`.

    While it runs, its state is in `<output>.training`; if it is killed, the same call goes on from there.

    Args:
        settings: What to train on what.
        output: Folder to write.
        force: Whether an existing output is replaced.
        restart: Whether to drop the state of a run that was killed.
        save_seconds: How often the state is saved, and so how much a kill can cost at most.
        workers: Who trains; of several workers only the chief writes anything.

    Returns:
        The content of results.json, on all workers: settings, epochs, and scores on dev and test as far as there are.

    Raises:
        InputError: If settings, data or checkpoint are not usable, or the output is in use.
    """
    output = check_free(output, force) if workers.is_chief else Path(output)
    settings = settings.with_defaults()
    _check(settings)
    workers.check(settings.xla)
    keras.utils.set_random_seed(settings.seed)
    task = TASKS[settings.task](settings)
    work = output.with_name(f"{output.name}.training")
    recorded = _recorded(settings)
    workers.agree({name: value for name, value in recorded.items() if name not in _PATHS})
    with computing_in_bfloat16(settings.mixed_precision), workers.scope():
        model: Any = _model(settings, task)
        trainer = _trainer(settings, task, model, work, save_seconds, workers)
        if workers.is_chief:
            open_folder(work, recorded, restart)
        workers.seed(settings.seed)
        epochs, best = trainer.run()
    results = _finish(task, type(model), recorded, epochs, best, output, force) if workers.is_chief else None
    return workers.share(results)


def _finish(
    task: Task,
    cls: type[PretrainedModel],
    recorded: dict[str, Any],
    epochs: Sequence[Epoch],
    best: Path,
    output: Path,
    force: bool,
) -> dict[str, Any]:
    """Scores the best epoch and writes it to the output; returns the results."""
    report = task.reporter(cls.from_pretrained(best))  # in float32, as others load it
    scores: dict[str, Any] = {part: report(task.parts[part]) for part in ("dev", "test") if part in task.parts}
    for part, score in scores.items():
        say(f"\n{part}:\n{score}")
    results = {
        "settings": recorded,
        "epochs": [epoch._asdict() for epoch in epochs],
        **{part: score.to_json() for part, score in scores.items()},
    }
    with replacing(output, force) as new:
        shutil.copytree(best, new)
        write_json(new / RESULTS_FILE, results)
    shutil.rmtree(best.parent)
    return results


def _trainer(settings: Settings, task: Task, model: Any, work: Path, save_seconds: float, workers: Workers) -> Trainer:
    """Compiles the model and returns what trains it."""
    assert settings.epochs and settings.learning_rate  # filled in by with_defaults and checked
    if settings.adapters_only:
        if not hasattr(model, "train_adapters_only"):
            raise InputError(f"Only a MiniALBERT has adapters to train. Received: {settings.model}, a BERT")
        say(str(model.train_adapters_only()))
    examples = task.examples(task.parts["train"], model)
    batches, loss = _lessons(settings, task, model, examples, workers)
    total = batches.steps * settings.epochs
    schedule = WarmupSchedule(settings.learning_rate, total, int(total * settings.warmup), settings.schedule)
    optimizer = make_optimizer(schedule, settings.weight_decay, settings.clip_norm)
    model.compile(optimizer, loss, jit_compile=settings.xla)
    _describe(settings, task, model, examples)
    report, dev = task.reporter(model), task.parts.get("dev")
    evaluate = None if dev is None else lambda: task.score(report(dev))
    workers.agree({**model.config.to_dict(), "tokenizer": model.tokenizer.digest(), "number of steps": total})
    return Trainer(model, batches, settings.epochs, evaluate, work, save_seconds, workers)


def _lessons(
    settings: Settings, task: Task, model: Any, examples: list[Example], workers: Workers
) -> tuple[BatchedExamples, TaskDistillationLoss | None]:
    """Returns what to learn in batches, and the loss that goes with them; None: the model's own."""
    if settings.teacher is None:
        return BatchedExamples(examples, settings.batch_size, settings.seed), None
    teacher = task.checkpoint_class(settings.teacher).from_pretrained(settings.teacher)
    if teacher.config.labels != task.labels:
        raise InputError(
            f"The teacher must know the labels {', '.join(task.labels)}. Received: {', '.join(teacher.config.labels)}"
        )
    if teacher.load_report and teacher.load_report.initialised:
        raise InputError(f"The teacher must be fine-tuned: it lacks a head for labels. Received: {settings.teacher}")
    if teacher.tokenizer is None or not teacher.tokenizer.same_as(model.tokenizer):
        raise InputError(f"Model and teacher must have the same tokenizer. Received: {settings.teacher}")
    longest = teacher.config.max_position_embeddings
    if settings.max_length > longest:
        raise InputError(f"max_length must be at most the teacher's {longest}. Received: {settings.max_length}")
    workers.agree_on_weights("teacher", teacher)
    files = find_files(settings.unlabelled) if settings.unlabelled else []
    raw = list(task.unlabelled(read_documents(files), model))
    say(f"{teacher.count_params():,} parameters teach, on {len(examples)} labelled and {len(raw)} raw sequences")
    batches = TaughtExamples([*examples, *raw], settings.batch_size, settings.seed, teacher=teacher)
    return batches, TaskDistillationLoss(settings.teacher_weight, settings.temperature)


def _check(settings: Settings) -> None:
    rules = {
        "task": (settings.task in TASKS, f"one of {', '.join(TASKS)}"),
        "size": (settings.size in SIZES, f"one of {', '.join(SIZES)}"),
        "epochs": ((settings.epochs or 0) >= 1, "at least 1"),
        "batch_size": (settings.batch_size >= 1, "at least 1"),
        "max_length": (settings.max_length >= 8, "at least 8"),
        "seed": (0 <= settings.seed < 2**32, "in [0, 2^32)"),
        "schedule": (settings.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        "warmup": (0 <= settings.warmup < 1, "in [0, 1)"),
        "clip_norm": (settings.clip_norm > 0, "positive"),
        "teacher": (
            settings.teacher is None or settings.task != "regression",
            "left out for regression, where there are no distributions to compare",
        ),
        "unlabelled": (
            not settings.unlabelled or (settings.teacher is not None and settings.columns[1] is None),
            "left out without a teacher, and for pairs of texts, which raw text does not have",
        ),
        "teacher_weight": (0 <= settings.teacher_weight <= 1, "from 0 to 1"),
        "temperature": (settings.temperature > 0, "positive"),
        "weight_decay": (settings.weight_decay >= 0, "0 or more"),
        "learning_rate": ((settings.learning_rate or 0) > 0, "positive"),
    }
    for name, (valid, rule) in rules.items():
        if not valid:
            raise InputError(f"{name} must be {rule}. Received: {getattr(settings, name)!r}")


def _recorded(settings: Settings) -> dict[str, Any]:
    digest = hashlib.sha256()
    raw = find_files(settings.unlabelled) if settings.unlabelled else []
    for path in [*part_files(settings.data).values(), *raw]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {
        **dataclasses.asdict(settings),
        "columns": list(settings.columns),
        "unlabelled": list(settings.unlabelled),
        "data": str(Path(settings.data).resolve()),
        "data_sha256": digest.hexdigest(),
    }


def _model(settings: Settings, task: Task) -> PretrainedModel:
    changes = {"id2label": dict(enumerate(task.labels)), **task.config_changes}
    if settings.model == SCRATCH:
        tokenizer = WordPieceTokenizer.train(task.texts(), settings.vocab_size, settings.lowercase)
        config = MiniAlbertConfig(
            vocab_size=len(tokenizer.vocabulary),
            pad_token_id=tokenizer.pad_id,
            max_position_embeddings=settings.max_length,  # later positions would stay untrained
            **SIZES[settings.size],
        )
        model = task.model_class(config.replace(**changes))
        model.tokenizer = tokenizer
        return model
    cls = task.checkpoint_class(settings.model)
    known = cls.config_class.from_pretrained(settings.model).labels
    model = cls.from_pretrained(settings.model, new_head=known != task.labels, **changes)
    if model.tokenizer is None:
        raise InputError(f"A checkpoint to fine-tune must hold its tokenizer (vocab.txt). Received: {settings.model}")
    if settings.max_length > model.config.max_position_embeddings:
        raise InputError(
            f"max_length must be at most the model's max_position_embeddings={model.config.max_position_embeddings}. "
            f"Received: {settings.max_length}"
        )
    return model


def _describe(settings: Settings, task: Task, model: PretrainedModel, examples: Sequence[Example]) -> None:
    sizes = ", ".join(f"{name} {len(part)}" for name, part in task.parts.items())
    say(
        f"{settings.task} on {settings.data} ({sizes}; {len(examples)} training sequences), "
        f"{model.count_params():,} parameters, labels: {', '.join(task.labels)}"
    )

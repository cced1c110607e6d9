"""A whole distillation run: from a teacher and plain text to a student's checkpoint."""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras
from tqdm import tqdm

from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.data.corpus import SEPARATORS, find_files
from minialbert_tf.data.masking import MaskedBatches, Masking
from minialbert_tf.data.text_windows import WindowPlan, Windows
from minialbert_tf.distillation.distiller import Distiller
from minialbert_tf.distillation.initialisation import initialise
from minialbert_tf.distillation.logs import LOG_FILE, LossLog, read_log
from minialbert_tf.distillation.losses import LossWeights
from minialbert_tf.errors import InputError
from minialbert_tf.files import check_free, replacing, write_json
from minialbert_tf.models import MiniAlbertForMaskedLM, MiniAlbertModel
from minialbert_tf.pretrained import PretrainedModel
from minialbert_tf.teacher import load_teacher
from minialbert_tf.training import (
    SCHEDULES,
    SavedState,
    WarmupSchedule,
    computing_in_bfloat16,
    make_optimizer,
    open_folder,
    say,
)

LOGS_FOLDER = "logs"
RESULTS_FILE = "results.json"
STARTS = ("teacher", "random")
_RECENT_STEPS = 100  # over which the results average
_SAMPLED_TOKENS = 32_768  # to compute the first weights from


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a run; the defaults are the paper's (arXiv 2210.06425, section 4).

    Attributes:
        teacher: A BERT checkpoint with its tokenizer, which becomes the student's.
        texts: Names and patterns of plain text files.
        separator: "line" or "blank-line": what stands between documents.
        student: A MiniALBERT checkpoint to go on with; None makes a new student of the sizes below.
        embedding_size: E of a new student.
        recursions: N of a new student.
        hidden_size: H of a new student; None takes the teacher's, and of the other sizes with it.
        reduction_factor: Of a new student's adapters; None leaves them out.
        dropout: Of the student.
        start: Of a new student: "teacher" computes its weights from the teacher's, "random" does not.
        start_layer: Of the teacher, whose weights the block starts from; None starts from the mean of the layers.
        layer_map: The teacher's layer for each recursion; None spreads them evenly.
        weights: Of the losses.
        temperature: Of the output loss.
        window: Longest sequence, [CLS] and [SEP] included.
        stride: Pieces between the starts of windows.
        packed: Whether windows are filled with one document after another, which leaves no padding.
        windows_per_document: Most windows of a document in a pass over the texts; None: all.
        mask_rate: Share of masked pieces; 0 shows whole texts, for teachers and losses without a masked-LM head.
        steps: Updates of the weights.
        batch_size: Sequences for an update.
        accumulation: Parts that a batch is computed in, to save memory.
        learning_rate: Its peak.
        schedule: "linear" or "cosine" decay.
        warmup_steps: Steps in which the learning rate rises.
        weight_decay: AdamW's, not applied to biases and LayerNorm.
        clip_norm: Largest global norm of the gradient.
        seed: Of initial weights, dropout, and the order and masks of the texts.
        mixed_precision: Whether to compute in bfloat16, see `computing_in_bfloat16`.
        xla: Whether to compile with XLA.
    """

    teacher: str
    texts: tuple[str, ...]
    steps: int
    separator: str = "line"
    student: str | None = None
    embedding_size: int = 128
    recursions: int = 6
    hidden_size: int | None = None
    reduction_factor: int | None = 16
    dropout: float = 0.1
    start: str = "teacher"
    start_layer: int | None = None
    layer_map: tuple[int, ...] | None = None
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)
    temperature: float = 1.0
    window: int = 256
    stride: int = 128
    packed: bool = False
    windows_per_document: int | None = None
    mask_rate: float = 0.15
    batch_size: int = 192
    accumulation: int = 1
    learning_rate: float = 5e-4
    schedule: str = "linear"
    warmup_steps: int = 5000
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    seed: int = 0
    mixed_precision: bool = False
    xla: bool = False


def distill(
    settings: Settings,
    output: str | Path,
    force: bool = False,
    restart: bool = False,
    save_seconds: float = 300.0,
) -> dict[str, Any]:
    """Distils a teacher into a student and writes the student's checkpoint, results.json and the logs to `output`.

    While it runs, its state and logs are in `<output>.training`; if it is killed, the same call goes on from there.

    Args:
        settings: What to train on what.
        output: Folder to write.
        force: Whether an existing output is replaced.
        restart: Whether to drop the state of a run that was killed.
        save_seconds: How often the state is saved, and so how much a kill can cost at most.

    Returns:
        The content of results.json: settings, sizes, seconds, tokens, and the mean losses of the last steps.

    Raises:
        InputError: If settings, texts or checkpoints are not usable or do not go together, or the output is in use.
    """
    output = check_free(output, force)
    _check(settings)
    with computing_in_bfloat16(settings.mixed_precision):
        return _run(settings, output, force, restart, save_seconds)


def _run(settings: Settings, output: Path, force: bool, restart: bool, save_seconds: float) -> dict[str, Any]:
    files = find_files(settings.texts)
    keras.utils.set_random_seed(settings.seed)
    teacher = load_teacher(settings.teacher)
    if teacher.tokenizer is None:
        raise InputError(f"The teacher's checkpoint must hold its tokenizer (vocab.txt). Received: {settings.teacher}")
    batches = _batches(settings, files, teacher)
    student = _student(settings, teacher, batches)
    distiller = Distiller(
        student,
        teacher,
        settings.layer_map,
        settings.weights,
        settings.temperature,
        settings.accumulation,
        max_masked=batches.masking.most(settings.window),
    )
    schedule = WarmupSchedule(settings.learning_rate, settings.steps, settings.warmup_steps, settings.schedule)
    optimizer = make_optimizer(schedule, settings.weight_decay, settings.clip_norm)
    distiller.compile(optimizer, jit_compile=settings.xla)
    work = output.with_name(f"{output.name}.training")
    recorded = _recorded(settings, files)
    open_folder(work, recorded, restart)
    _describe(settings, distiller)
    results = {"settings": recorded, **_train(distiller, batches, settings.steps, work, save_seconds)}
    with replacing(output, force) as new:
        student.save_pretrained(new)
        shutil.copytree(work / LOGS_FOLDER, new / LOGS_FOLDER)
        write_json(new / RESULTS_FILE, results)
    shutil.rmtree(work)
    return results


def _batches(settings: Settings, files: list[Path], teacher: PretrainedModel) -> MaskedBatches:
    if settings.window > teacher.config.max_position_embeddings:
        raise InputError(
            f"window must be at most the teacher's max_position_embeddings={teacher.config.max_position_embeddings}. "
            f"Received: {settings.window}"
        )
    plan = WindowPlan(settings.window, settings.stride, settings.packed, settings.windows_per_document)
    windows = Windows(files, teacher.tokenizer, plan, settings.separator, settings.seed)
    return MaskedBatches(windows, Masking(teacher.tokenizer, settings.mask_rate), settings.batch_size, settings.seed)


def _student(settings: Settings, teacher: PretrainedModel, batches: MaskedBatches) -> PretrainedModel:
    # Without anything to train it, a masked-LM head would only be ballast.
    needs_head = settings.weights.mlm > 0 or (settings.weights.output > 0 and hasattr(teacher, "logits"))
    cls = MiniAlbertForMaskedLM if needs_head else MiniAlbertModel
    dropout = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}
    if settings.student is not None:
        return cls.from_pretrained(settings.student, **dropout)
    sizes = teacher.config
    hidden = settings.hidden_size or sizes.hidden_size
    if settings.embedding_size > hidden:
        raise InputError(f"embedding_size must not exceed hidden_size={hidden}. Received: {settings.embedding_size}")
    config = MiniAlbertConfig(
        vocab_size=sizes.vocab_size,
        embedding_size=settings.embedding_size,
        hidden_size=hidden,
        num_hidden_layers=settings.recursions,
        num_attention_heads=sizes.num_attention_heads,
        intermediate_size=4 * hidden if settings.hidden_size else sizes.intermediate_size,
        max_position_embeddings=sizes.max_position_embeddings,
        type_vocab_size=sizes.type_vocab_size,
        use_adapter=settings.reduction_factor is not None,
        reduction_factor=settings.reduction_factor or 1,
        hidden_act=sizes.hidden_act,
        layer_norm_eps=sizes.layer_norm_eps,
        initializer_range=sizes.initializer_range,
        pad_token_id=sizes.pad_token_id,
        **dropout,
    )
    student = cls(config)
    student.tokenizer = teacher.tokenizer
    if settings.start == "teacher":
        sampled = -(-_SAMPLED_TOKENS // (settings.batch_size * settings.window))
        samples = (inputs for inputs, _ in islice(batches.batches(), sampled))
        initialise(student, teacher, samples, settings.start_layer, settings.layer_map)
    return student


def _train(distiller: Distiller, batches: MaskedBatches, steps: int, work: Path, save_seconds: float) -> dict[str, Any]:
    state = SavedState(distiller, work)
    step, tokens = state.restore() or (0, 0)
    if step:
        say(f"resuming after step {step} of {steps}")
    log = LossLog(work / LOGS_FOLDER, step)
    with tqdm(total=steps, initial=step, unit="step", disable=None) as bar:
        progress = _Progress(state, log, bar, step, tokens, save_seconds)
        if step < steps:
            distiller.fit(batches.dataset(step), steps_per_epoch=steps - step, verbose=0, callbacks=[progress])
    log.close()
    return _summary(work / LOGS_FOLDER, progress.tokens)


class _Progress(keras.callbacks.Callback):
    """Logs each step, saves the state every now and then, and moves the progress bar.

    Attributes:
        tokens: Pieces that the run has seen, padding not counted.
    """

    def __init__(self, state: SavedState, log: LossLog, bar: tqdm, step: int, tokens: int, save_seconds: float) -> None:
        super().__init__()
        self._state = state
        self._log = log
        self._bar = bar
        self._step = step
        self.tokens = tokens
        self._save_seconds = save_seconds
        self._seconds = log.seconds
        self._last = self._saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the step."""
        losses = {name: float(value) for name, value in (logs or {}).items()}
        if not np.isfinite(list(losses.values())).all():
            raise InputError(f"The losses must stay finite: use a lower --learning-rate. Received: {losses}")
        now = time.monotonic()
        took, self._last = now - self._last, now
        tokens = int(losses.pop("tokens"))
        self._step += 1
        self.tokens += tokens
        self._seconds += took
        rate = float(self.model.optimizer.learning_rate)
        values = {**losses, "learning_rate": rate, "tokens_per_second": tokens / took}
        self._log.write(self._step, values, self._seconds)
        self._bar.update()
        self._bar.set_postfix_str(f"loss {losses['loss']:.3f}, {tokens / took:,.0f} tokens/s", refresh=False)
        if self._step == self._bar.total or now - self._saved >= self._save_seconds:
            self._log.flush()
            self._state.save((self._step, self.tokens))
            self._saved = self._last = time.monotonic()


def _summary(folder: Path, tokens: int) -> dict[str, Any]:
    lines = list(read_log(folder / LOG_FILE))
    names = [name for name in lines[-1] if name.endswith("loss")]
    recent = lines[-_RECENT_STEPS:]
    return {
        "steps": lines[-1]["step"],
        "tokens": tokens,
        "seconds": lines[-1]["seconds"],
        "losses": {name: float(np.mean([line[name] for line in recent])) for name in names},
    }


def _check(settings: Settings) -> None:
    weights = settings.weights
    rules = {
        "mask_rate": (
            settings.mask_rate > 0 or not (weights.mlm or weights.output),
            "above 0, unless the weights of the mlm and output losses are 0",
        ),
        "separator": (settings.separator in SEPARATORS, f"one of {', '.join(SEPARATORS)}"),
        "start": (settings.start in STARTS, f"one of {', '.join(STARTS)}"),
        "schedule": (settings.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        "steps": (settings.steps >= 1, "at least 1"),
        "batch_size": (settings.batch_size >= 1, "at least 1"),
        "accumulation": (
            settings.accumulation >= 1 and settings.batch_size % settings.accumulation == 0,
            f"a divisor of batch_size={settings.batch_size}",
        ),
        "warmup_steps": (0 <= settings.warmup_steps < settings.steps, f"from 0 to less than steps={settings.steps}"),
        "learning_rate": (settings.learning_rate > 0, "positive"),
        "weight_decay": (settings.weight_decay >= 0, "0 or more"),
        "clip_norm": (settings.clip_norm > 0, "positive"),
        "seed": (0 <= settings.seed < 2**32, "in [0, 2^32)"),
    }
    for name, (valid, rule) in rules.items():
        if not valid:
            raise InputError(f"{name} must be {rule}. Received: {getattr(settings, name)!r}")


def _recorded(settings: Settings, files: list[Path]) -> dict[str, Any]:
    values = {**dataclasses.asdict(settings), "files": {str(path.resolve()): path.stat().st_size for path in files}}
    return json.loads(json.dumps(values))  # as a resumed run reads them back


def _describe(settings: Settings, distiller: Distiller) -> None:
    student, teacher = distiller.student, distiller.teacher
    say(
        f"{teacher.count_params():,} parameters teach {student.count_params():,}, recursions 1 to "
        f"{len(distiller.layer_map.layers)} by layers {', '.join(map(str, distiller.layer_map.layers))}; "
        f"losses: {', '.join(distiller.terms)}; {settings.steps:,} steps of {settings.batch_size} windows"
    )

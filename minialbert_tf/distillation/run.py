"""A whole distillation run: from a teacher and plain text to a student's checkpoint."""

import dataclasses
import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

from minialbert_tf.config import MiniAlbertConfig, TransformerConfig
from minialbert_tf.data.corpus import find_files, read_documents
from minialbert_tf.data.masking import MaskedBatches, Masking
from minialbert_tf.data.text_windows import WindowPlan, Windows
from minialbert_tf.distillation.distiller import Distiller
from minialbert_tf.distillation.initialisation import initialise
from minialbert_tf.distillation.logs import LOG_FILE, LossLog, read_log
from minialbert_tf.distillation.settings import Settings, check
from minialbert_tf.errors import InputError
from minialbert_tf.files import check_free, replacing, write_json
from minialbert_tf.models import MiniAlbertForMaskedLM, MiniAlbertModel
from minialbert_tf.pretrained import Inputs, PretrainedModel
from minialbert_tf.teacher import load_teacher
from minialbert_tf.tokenization import WordPieceTokenizer
from minialbert_tf.training import (
    SavedState,
    WarmupSchedule,
    computing_in_bfloat16,
    make_optimizer,
    say,
)
from minialbert_tf.workers import ALONE, Workers
from minialbert_tf.working_folder import open_folder

LOGS_FOLDER = "logs"
RESULTS_FILE = "results.json"
_RECENT_STEPS = 100  # over which the results average
_SAMPLED_TOKENS = 32_768  # to compute the first weights from
_SAMPLED_ROWS = 16  # at once: attention maps of the largest batch may not fit in memory


def distill(
    settings: Settings,
    output: str | Path,
    force: bool = False,
    restart: bool = False,
    save_seconds: float = 300.0,
    workers: Workers = ALONE,
) -> dict[str, Any]:
    """Distils a teacher into a student and writes the student's checkpoint, results.json and the logs to `output`.

    While it runs, its state and logs are in `<output>.training`; if it is killed, the same call goes on from there.

    Args:
        settings: What to train on what.
        output: Folder to write.
        force: Whether an existing output is replaced.
        restart: Whether to drop the state of a run that was killed.
        save_seconds: How often the state is saved, and so how much a kill can cost at most.
        workers: Who trains; of several workers only the chief writes anything.

    Returns:
        The content of results.json (on all workers): settings, sizes, seconds, tokens, mean losses of the last steps.

    Raises:
        InputError: If settings, texts or checkpoints are not usable or do not go together, or the output is in use.
    """
    output = check_free(output, force) if workers.is_chief else Path(output)
    check(settings)
    workers.check(settings.xla)
    with computing_in_bfloat16(settings.mixed_precision), workers.scope():
        return _run(settings, output, force, restart, save_seconds, workers)


def _run(
    settings: Settings, output: Path, force: bool, restart: bool, save_seconds: float, workers: Workers
) -> dict[str, Any]:
    files = find_files(settings.texts)
    for path in files:  # one that is no text shows itself now, and not after hours
        next(read_documents([path], settings.separator), None)
    keras.utils.set_random_seed(settings.seed)
    teacher = load_teacher(settings.teacher)
    tokenizer = teacher.tokenizer
    if tokenizer is None:
        raise InputError(f"The teacher's checkpoint must hold its tokenizer (vocab.txt). Received: {settings.teacher}")
    batches = _batches(settings, files, tokenizer, settings.batch_size)
    student = _student(settings, teacher)
    schedule = WarmupSchedule(settings.learning_rate, settings.steps, settings.warmup_steps, settings.schedule)
    distiller = _distiller(settings, student, teacher, schedule, batches.masking.most(settings.window))
    work = output.with_name(f"{output.name}.training")
    state = SavedState(distiller, work, workers)
    if workers.is_chief and (restart or not state.exists):
        samples = _samples(_batches(settings, files, tokenizer, _SAMPLED_ROWS))
        if settings.student is None and settings.start == "teacher":
            initialise(student, teacher, samples, settings.start_layer, settings.layer_map)
    recorded = _recorded(settings, files)
    _agree(workers, recorded, distiller)
    if workers.is_chief:
        open_folder(work, recorded, restart)
    _describe(settings, distiller)
    workers.seed(settings.seed)
    tokens = _train(distiller, batches, settings, schedule, state, work / LOGS_FOLDER, save_seconds, workers)
    results = _finish(student, recorded, tokens, work, output, force) if workers.is_chief else None
    return workers.share(results)


def _finish(
    student: PretrainedModel, recorded: dict[str, Any], tokens: int, work: Path, output: Path, force: bool
) -> dict[str, Any]:
    results = {"settings": recorded, **_summary(work / LOGS_FOLDER, tokens)}
    with replacing(output, force) as new:
        student.save_pretrained(new)
        shutil.copytree(work / LOGS_FOLDER, new / LOGS_FOLDER)
        write_json(new / RESULTS_FILE, results)
    shutil.rmtree(work)
    return results


def _batches(settings: Settings, files: list[Path], tokenizer: WordPieceTokenizer, size: int) -> MaskedBatches:
    plan = WindowPlan(settings.window, settings.stride, settings.packed, settings.windows_per_document)
    windows = Windows(files, tokenizer, plan, settings.separator, settings.seed)
    return MaskedBatches(windows, Masking(tokenizer, settings.mask_rate), size, settings.seed)


def _samples(batches: MaskedBatches) -> list[Inputs]:
    """Returns some text to compute weights from, and so reads the texts' beginning before a folder is made."""
    samples, tokens = [], 0
    for inputs, _ in batches.batches():
        samples.append(inputs)
        tokens += int(inputs["attention_mask"].sum())
        if tokens >= _SAMPLED_TOKENS:
            break
    return samples


def _student(settings: Settings, teacher: PretrainedModel) -> PretrainedModel:
    # Without anything to train it, a masked-LM head would only be ballast.
    needs_head = settings.weights.mlm > 0 or (settings.weights.output > 0 and hasattr(teacher, "logits"))
    cls = MiniAlbertForMaskedLM if needs_head else MiniAlbertModel
    dropout: dict[str, Any] = {
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
    }
    if settings.student is None:
        student = cls(_student_config(settings, teacher.config).replace(**dropout))
    else:
        student = cls.from_pretrained(settings.student, **dropout)
    student.tokenizer = student.tokenizer or teacher.tokenizer
    for name, model in (("teacher", teacher), ("student", student)):
        longest = model.config.max_position_embeddings
        if settings.window > longest:
            raise InputError(
                f"window must be at most the {name}'s max_position_embeddings={longest}. Received: {settings.window}"
            )
    return student


def _student_config(settings: Settings, sizes: TransformerConfig) -> MiniAlbertConfig:
    """Returns the config of a new student: the teacher's sizes, as far as the settings give no others."""
    hidden = settings.hidden_size or sizes.hidden_size
    if settings.embedding_size > hidden:
        raise InputError(f"embedding_size must not exceed hidden_size={hidden}. Received: {settings.embedding_size}")
    return MiniAlbertConfig(
        vocab_size=sizes.vocab_size,
        embedding_size=settings.embedding_size,
        hidden_size=hidden,
        num_hidden_layers=settings.recursions,
        num_attention_heads=sizes.num_attention_heads,
        intermediate_size=sizes.intermediate_size if hidden == sizes.hidden_size else 4 * hidden,
        max_position_embeddings=sizes.max_position_embeddings,
        type_vocab_size=sizes.type_vocab_size,
        use_adapter=settings.reduction_factor is not None,
        reduction_factor=1 if settings.reduction_factor is None else settings.reduction_factor,
        hidden_act=sizes.hidden_act,
        layer_norm_eps=sizes.layer_norm_eps,
        initializer_range=sizes.initializer_range,
        pad_token_id=sizes.pad_token_id,
    )


def _distiller(
    settings: Settings, student: PretrainedModel, teacher: PretrainedModel, schedule: WarmupSchedule, max_masked: int
) -> Distiller:
    distiller = Distiller(
        student,
        teacher,
        settings.layer_map,
        settings.weights,
        settings.temperature,
        settings.accumulation,
        max_masked,
    )
    optimizer = make_optimizer(schedule, settings.weight_decay, settings.clip_norm)
    distiller.compile(optimizer, jit_compile=settings.xla)
    return distiller


def _train(
    distiller: Distiller,
    batches: MaskedBatches,
    settings: Settings,
    schedule: WarmupSchedule,
    state: SavedState,
    logs: Path,
    save_seconds: float,
    workers: Workers,
) -> int:
    """Trains to the end and returns the number of tokens seen; only the chief counts and logs."""
    step, tokens = state.restore() or (0, 0)
    if step:
        say(f"resuming after step {step:,} of {settings.steps:,}")
    data = workers.distribute(batches.dataset(step, workers.shard, settings.accumulation))

    def fit(*callbacks: keras.callbacks.Callback) -> None:
        if step == settings.steps:
            return
        try:
            distiller.fit(
                data, steps_per_epoch=settings.steps - step, shuffle=False, verbose=0, callbacks=list(callbacks)
            )
        except tf.errors.OpError:
            if batches.error is None:
                raise
            raise batches.error from None

    if not workers.is_chief:
        fit()
        return 0
    log = LossLog(logs, step)
    with tqdm(total=settings.steps, initial=step, unit="step", disable=None) as bar:
        progress = _Progress(state, log, bar, schedule, (step, tokens), save_seconds)
        fit(progress)
    log.close()
    return progress.tokens


class _Progress(keras.callbacks.Callback):
    """Logs each step, saves the state every now and then, and moves the progress bar.

    Attributes:
        tokens: Pieces that the run has seen, padding not counted.
    """

    def __init__(
        self,
        state: SavedState,
        log: LossLog,
        bar: tqdm,
        schedule: Callable[[int], Any],
        position: tuple[int, int],
        save_seconds: float,
    ) -> None:
        super().__init__()
        self._state = state
        self._log = log
        self._bar = bar
        self._schedule = schedule
        self._step, self.tokens = position
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
        rate = float(self._schedule(self._step))
        self._step += 1
        self.tokens += tokens
        self._seconds += took
        values = {**losses, "learning_rate": rate, "tokens_per_second": tokens / took}
        self._log.write(self._step, values, self._seconds)
        figures = f"loss {losses['loss']:.3f}, {tokens / took:,.0f} tokens/s"
        self._bar.update()
        self._bar.set_postfix_str(figures, refresh=False)
        if self._step == self._bar.total or now - self._saved >= self._save_seconds:
            self._save(figures)

    def _save(self, figures: str) -> None:
        if self._bar.disable:  # no terminal: a line now and then instead of the bar
            left = (self._bar.total - self._step) * self._seconds / self._step
            say(f"step {self._step:,} of {self._bar.total:,}: {figures}, {tqdm.format_interval(left)} left")
        self._log.plot()
        self._state.save((self._step, self.tokens))
        self._saved = self._last = time.monotonic()


def _summary(folder: Path, tokens: int) -> dict[str, Any]:
    recent = deque(read_log(folder / LOG_FILE), maxlen=_RECENT_STEPS)
    names = [name for name in recent[-1] if name.endswith("loss")]
    return {
        "steps": recent[-1]["step"],
        "tokens": tokens,
        "seconds": recent[-1]["seconds"],
        "losses": {name: float(np.mean([line[name] for line in recent])) for name in names},
    }


def _recorded(settings: Settings, files: list[Path]) -> dict[str, Any]:
    values = {**dataclasses.asdict(settings), "files": {str(path.resolve()): path.stat().st_size for path in files}}
    return json.loads(json.dumps(values))  # as a resumed run reads them back


def _agree(workers: Workers, recorded: dict[str, Any], distiller: Distiller) -> None:
    """Checks that all workers do the same; paths may differ from machine to machine, what they hold may not."""
    student, teacher = distiller.student, distiller.teacher
    workers.agree(
        {
            **{name: value for name, value in recorded.items() if name not in ("teacher", "texts", "student", "files")},
            "sizes of texts": list(recorded["files"].values()),
            "config of the student": student.config.to_dict(),
            "config of the teacher": teacher.config.to_dict(),
            "tokenizer": student.tokenizer.digest() if student.tokenizer else None,
        }
    )
    workers.agree_on_weights("teacher", teacher)


def _describe(settings: Settings, distiller: Distiller) -> None:
    student, teacher = distiller.student, distiller.teacher
    say(
        f"{teacher.count_params():,} parameters teach {student.count_params():,}, recursions 1 to "
        f"{len(distiller.layer_map.layers)} by layers {', '.join(map(str, distiller.layer_map.layers))}; "
        f"losses: {', '.join(distiller.terms)}; {settings.steps:,} steps of {settings.batch_size} windows"
    )

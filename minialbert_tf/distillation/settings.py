"""The settings of a distillation run."""

import dataclasses
from dataclasses import dataclass

from minialbert_tf.data.corpus import SEPARATORS
from minialbert_tf.distillation.losses import LossWeights
from minialbert_tf.errors import InputError
from minialbert_tf.training import SCHEDULES

STARTS = ("teacher", "random")


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


def check(settings: Settings) -> None:
    """Checks what can be checked without the teacher and the texts.

    Raises:
        InputError: If a setting is out of its range.
    """
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

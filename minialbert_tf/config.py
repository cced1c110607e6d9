"""Configuration of a model, read from and written to the config.json of its checkpoint."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from minialbert_tf.checkpoints.hub import resolve
from minialbert_tf.errors import CheckpointError, InputError

CONFIG_FILE = "config.json"
ACTIVATIONS = ("gelu", "gelu_new", "relu")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


@dataclass(frozen=True)
class TransformerConfig:
    """What the configurations of MiniALBERT and of BERT share; field names are those of config.json.

    Attributes:
        model_types: What config.json may state as model_type.
        vocab_size: V, rows of the word embedding table.
        hidden_size: H, width of the blocks.
        num_hidden_layers: N, how many blocks are applied.
        num_attention_heads: A, which must divide H.
        intermediate_size: Width inside a block's feed-forward part.
        hidden_act: Activation of a block's feed-forward part: "gelu" (erf), "gelu_new" (tanh) or "relu".
        classifier_dropout: Dropout before a head's linear layer; None means hidden_dropout_prob.
        problem_type: Loss of a sequence head, one of `PROBLEM_TYPES`; None infers it from the labels.
        id2label: Label names by id; None means LABEL_0, LABEL_1, ….
        num_labels: Labels of a head; derived from id2label where that is given, else 2 unless stated.
        extra: Other keys of config.json, kept for a round trip.

    Raises:
        InputError: If a field is out of its range or the fields contradict each other.
    """

    model_types: ClassVar[tuple[str, ...]]

    vocab_size: int = 28996
    hidden_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0
    problem_type: str | None = None
    id2label: dict[int, str] | None = None
    num_labels: int | None = None
    model_type: str = "albert"
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.id2label is not None:
            object.__setattr__(self, "id2label", _checked_labels(self.id2label))
            object.__setattr__(self, "num_labels", len(self.id2label))
        elif self.num_labels is None:
            object.__setattr__(self, "num_labels", 2)
        _check(self)

    @property
    def labels(self) -> list[str]:
        """Label names by id."""
        return [(self.id2label or {}).get(i, f"LABEL_{i}") for i in range(self.num_labels or 0)]

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with `changes`; a new `num_labels` drops label names that no longer fit."""
        if changes.get("num_labels") not in (None, self.num_labels):
            changes.setdefault("id2label", None)
        unknown = changes.keys() - {f.name for f in dataclasses.fields(self)}
        if unknown:
            raise InputError(f"A change must name a config field. Received: {', '.join(sorted(unknown))}")
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds a config from the content of a config.json.

        Raises:
            InputError: If a value has the wrong type or range, or it is the config of another model.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"config.json must hold one JSON object. Received: {type(values).__name__}")
        names = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        known = {key: value for key, value in values.items() if key in names}
        extra = {key: value for key, value in values.items() if key not in names and key != "label2id"}
        return cls(**known, extra=extra)

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, **changes: Any) -> Self:
        """Reads config.json of a local folder or a hub id, such as "nlpie/bio-miniALBERT-128".

        Raises:
            CheckpointError: If there is none, or it is not valid JSON.
            InputError: If its values are out of range.
        """
        return cls.from_dict(read_config(path_or_hub_id)).replace(**changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of config.json; `from_dict` reads it back to an equal config."""
        # Hugging Face derives num_labels from id2label.
        derived = ("extra", "id2label", "num_labels")
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in derived}
        values["id2label"] = {str(i): label for i, label in enumerate(self.labels)}
        values["label2id"] = {label: i for i, label in enumerate(self.labels)}
        return dict(sorted({**self.extra, **values}.items()))


@dataclass(frozen=True)
class MiniAlbertConfig(TransformerConfig):
    """Sizes and options of a MiniALBERT; the fields of every transformer are those of `TransformerConfig`.

    Attributes:
        num_hidden_layers: N, how often the one block is applied.
        embedding_size: E, width of the factorised embedding tables. The projector E→H is absent when E equals H.
        use_adapter: Whether each recursion has bottleneck adapters of its own.
        reduction_factor: The adapters' bottleneck is H // reduction_factor wide.

    Raises:
        InputError: If a field is out of its range or the fields contradict each other.
    """

    model_types: ClassVar[tuple[str, ...]] = ("albert", "bert", "MiniAlbert")

    embedding_size: int = 128
    use_adapter: bool = True
    reduction_factor: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "embedding_size", "reduction_factor")
        _require(self, type(self.use_adapter) is bool, "use_adapter must be true or false.", "use_adapter")
        _require(
            self,
            self.reduction_factor <= self.hidden_size,
            "reduction_factor must not exceed hidden_size.",
            "reduction_factor",
            "hidden_size",
        )

    @property
    def bottleneck_size(self) -> int:
        """Width inside the adapters, H // reduction_factor."""
        return self.hidden_size // self.reduction_factor

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds a config from the content of a config.json.

        Raises:
            InputError: If a value has the wrong type or range, or embedding_size is missing (an ordinary BERT).
        """
        if isinstance(values, Mapping) and "embedding_size" not in values:
            raise InputError(
                "A MiniALBERT config must give embedding_size; without it this is another model. "
                f"Received: model_type={values.get('model_type')!r}"
            )
        return super().from_dict(values)


def read_config(path_or_hub_id: str | Path) -> Any:
    """Reads config.json of a checkpoint: a local folder, a weight file beside it, or a hub id.

    Raises:
        CheckpointError: If there is none, or it is not valid JSON.
    """
    path = resolve(path_or_hub_id)
    return read_json((path if path.is_dir() else path.parent) / CONFIG_FILE)


def read_json(path: Path) -> Any:
    """Reads a JSON file of a checkpoint.

    Raises:
        CheckpointError: If the file is missing, not UTF-8 or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"A checkpoint folder must hold {path.name}. Received: {path.parent}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} must be JSON in UTF-8: {error}") from None


def _checked_labels(id2label: Mapping[Any, Any]) -> dict[int, str]:
    try:
        labels = {int(key): value for key, value in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"id2label must map ids to names. Received: {id2label!r}") from None
    valid = sorted(labels) == list(range(len(labels))) and all(isinstance(name, str) for name in labels.values())
    if not labels or not valid or len(set(labels.values())) != len(labels):
        raise InputError(f"id2label must name ids 0, 1, 2, … each with a label of its own. Received: {id2label!r}")
    return dict(sorted(labels.items()))


def _require(config: TransformerConfig, valid: bool, rule: str, *names: str) -> None:
    if not valid:
        received = ", ".join(f"{name}={getattr(config, name)!r}" for name in names)
        raise InputError(f"{rule} Received: {received}")


def _require_positive(config: TransformerConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(config, type(value) is int and 0 < value < 2**31, f"{name} must be a positive integer.", name)


def _check(config: TransformerConfig) -> None:
    def require(valid: bool, rule: str, *names: str) -> None:
        _require(config, valid, rule, *names)

    _require_positive(config, *_POSITIVE, "num_labels")
    for name in _PROBABILITIES:
        value = getattr(config, name)
        optional = name == "classifier_dropout" and value is None
        require(optional or (_is_number(value) and 0 <= value < 1), f"{name} must be in [0, 1).", name)
    types = config.model_types
    require(config.model_type in types, f"model_type must be one of {', '.join(types)}.", "model_type")
    require(config.hidden_act in ACTIVATIONS, f"hidden_act must be one of {', '.join(ACTIVATIONS)}.", "hidden_act")
    require(
        config.problem_type in (None, *PROBLEM_TYPES),
        f"problem_type must be one of {', '.join(PROBLEM_TYPES)} or absent.",
        "problem_type",
    )
    for name in ("layer_norm_eps", "initializer_range"):
        value = getattr(config, name)
        require(_is_number(value) and 0 < value < 1, f"{name} must be in (0, 1).", name)
    require(
        type(config.pad_token_id) is int and 0 <= config.pad_token_id < config.vocab_size,
        "pad_token_id must be an id below vocab_size.",
        "pad_token_id",
        "vocab_size",
    )
    require(
        config.hidden_size % config.num_attention_heads == 0,
        "num_attention_heads must divide hidden_size.",
        "hidden_size",
        "num_attention_heads",
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)

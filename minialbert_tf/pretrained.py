"""What all models share: a config, a tokenizer, checkpoints, and the ways of a head."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.checkpoints import names, port
from minialbert_tf.config import MiniAlbertConfig, TransformerConfig
from minialbert_tf.encoder import TransformerBlock
from minialbert_tf.errors import InputError
from minialbert_tf.tokenization import WordPieceTokenizer

Inputs = dict[str, tf.Tensor]
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")


class PretrainedModel(keras.Model):
    """What the encoder and the heads share: a config, maybe a tokenizer, and checkpoints.

    A model has its weights as soon as it is constructed.

    Attributes:
        config_class: The class of the config.
        naming: How checkpoints name the tensors.
        head_rows: The weight map's rows of the class's head; None in the bare encoder.
        tied: Second names of tensors in checkpoints, and their first names.
        config: The config, of class `config_class`.
        tokenizer: The checkpoint's `WordPieceTokenizer`, or None; saved and exported with the model.
        load_report: What `from_pretrained` loaded, ignored and newly initialised, or None.
    """

    config_class: ClassVar[type[TransformerConfig]] = MiniAlbertConfig
    naming: ClassVar[names.Naming] = names.MINI_ALBERT
    head_rows: ClassVar[tuple[names.Row, ...] | None] = None
    tied: ClassVar[Mapping[str, str]] = {}

    built: bool

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.tokenizer: WordPieceTokenizer | None = None
        self.load_report: port.LoadReport | None = None
        # Tensors of a loaded checkpoint that the model does not use, such as the pooler: written back by
        # save_pretrained. In a plain object, because Keras would wrap a dict.
        self.unused_tensors = port.UnusedTensors({})

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, new_head: bool = False, **changes: Any) -> Self:
        """Loads a checkpoint: a folder, a weight file beside its config.json, or a hub id.

        Args:
            path_or_hub_id: Such as "nlpie/bio-miniALBERT-128"; PyTorch `.bin` and safetensors are read, without torch.
            new_head: Initialises the head anew even where the checkpoint has one, say for other labels.
            **changes: Config fields to change, such as `num_labels=5`, `id2label={…}` or `hidden_dropout_prob=0.0`.

        Raises:
            CheckpointError: If the checkpoint is missing, unsafe, damaged, or does not fit; then no weight is kept.
            InputError: If its config is invalid.
        """
        return port.load_pretrained(cls, path_or_hub_id, changes, new_head)

    def save_pretrained(self, folder: str | Path, force: bool = False, dtype: str = "float32") -> None:
        """Writes config.json, model.safetensors under the original's tensor names, and the tokenizer's files.

        The original PyTorch code and `from_pretrained` load the folder.

        Args:
            folder: Must not exist or be empty, unless `force` is true.
            force: Replaces an existing folder, in one step when everything is written.
            dtype: "float32" or "float16".

        Raises:
            InputError: If the folder is in use or the dtype is another.
        """
        port.save_pretrained(self, folder, force=force, dtype=dtype)

    def weight_rows(self) -> list[names.Row]:
        """Returns the weight map: the checkpoint name of each variable."""
        return self.naming.rows(self.config, self.head_rows)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {"config": self.config.to_dict(), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Rebuilds the model, with new weights, from `get_config`."""
        return cls(cls.config_class.from_dict(config["config"]), name=config["name"])


class Head(PretrainedModel):
    """A model of an encoder and a few layers of its own, whose compile() without a loss uses the head's loss.

    Attributes:
        encoder_class: The class of the encoder.
    """

    encoder_class: ClassVar[Any]

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.encoder = self.encoder_class(config, name="encoder")

    def default_loss(self) -> keras.losses.Loss:
        """Returns the loss that `compile()` takes when it is given none."""
        raise NotImplementedError

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """Configures training as `keras.Model.compile`; without a loss the head's own is taken."""
        # Keras 3 would choose XLA by itself, which compiles anew for every length of batch.
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, loss=self.default_loss() if loss is None else loss, **kwargs)
        self.distribute_reduction_method = "first"  # of tf-keras, which would add up what is a mean over all replicas

    def get_compile_config(self) -> dict[str, Any]:
        """Returns what `compile_from_config` needs."""
        return super().get_compile_config()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as the saved one was; Keras asks this of a class with a compile() of its own."""
        self.compile(**keras.utils.deserialize_keras_object(config))
        if hasattr(self.optimizer, "build"):
            self.optimizer.build(self.trainable_variables)


def new_block(config: TransformerConfig, name: str) -> TransformerBlock:
    """Returns a block of the config's sizes."""
    return TransformerBlock(
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        config.hidden_act,
        config.hidden_dropout_prob,
        config.attention_probs_dropout_prob,
        config.layer_norm_eps,
        config.initializer_range,
        name=name,
    )


def new_linear(units: int, config: TransformerConfig, name: str) -> keras.layers.Dense:
    """Returns a layer for logits."""
    kernel = keras.initializers.RandomNormal(stddev=config.initializer_range)
    # Logits stay in float32 under mixed precision: half precision makes the loss coarse.
    return keras.layers.Dense(units, kernel_initializer=kernel, dtype="float32", name=name)


def new_classifier(config: TransformerConfig) -> tuple[keras.layers.Dropout, keras.layers.Dense]:
    """Returns the dropout and the linear layer of a classifier."""
    rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    return keras.layers.Dropout(rate, name="head_dropout"), new_linear(config.num_labels or 2, config, "classifier")


def checked_ids(inputs: Inputs) -> tf.Tensor:
    """Returns the input ids.

    Raises:
        InputError: If the inputs are not a dict of what a model takes.
    """
    if not isinstance(inputs, dict) or "input_ids" not in inputs or inputs.keys() - set(INPUT_NAMES):
        received = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
        raise InputError(f"Inputs must be a dict of input_ids and optionally {INPUT_NAMES[1:]}. Received: {received}")
    return inputs["input_ids"]

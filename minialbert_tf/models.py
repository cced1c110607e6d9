"""The MiniALBERT encoder and its heads, as Keras models that are loaded from and saved as checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.attention import attention_bias
from minialbert_tf.checkpoints import names, port
from minialbert_tf.config import MiniAlbertConfig, TransformerConfig
from minialbert_tf.embeddings import FactorizedEmbeddings
from minialbert_tf.encoder import RecursiveEncoder, TransformerBlock
from minialbert_tf.errors import InputError
from minialbert_tf.losses import SequenceLoss, TokenCrossEntropy
from minialbert_tf.tokenization import WordPieceTokenizer
from minialbert_tf.trainable import TrainableReport

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
        config: The `MiniAlbertConfig`.
        tokenizer: The checkpoint's `WordPieceTokenizer`, or None; saved and exported with the model.
        load_report: What `from_pretrained` loaded, ignored and newly initialised, or None.
    """

    config_class: ClassVar[type[TransformerConfig]] = MiniAlbertConfig
    naming: ClassVar[names.Naming] = names.MINI_ALBERT
    head_rows: ClassVar[tuple[names.Row, ...] | None] = None
    tied: ClassVar[Mapping[str, str]] = {}

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


@keras.utils.register_keras_serializable("minialbert_tf")
class MiniAlbertModel(PretrainedModel):
    """The encoder: factorised embeddings and one block applied N times (MiniALBERT, arXiv 2210.06425, section 3).

    Input: a dict of `input_ids` (B, L) int32, `attention_mask` (B, L), 1 for tokens and 0 for padding (default: all
    1), and `token_type_ids` (B, L) (default: all 0).
    Output: a dict of `last_hidden_state` (B, L, H), `hidden_states`, the N+1 states (B, L, H) beginning with the
    projected embeddings, and `attentions`, the N softmax maps (B, A, L, L) before dropout. States at padding
    positions have no meaning.
    """

    def __init__(self, config: MiniAlbertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embeddings = FactorizedEmbeddings(
            config.vocab_size,
            config.embedding_size,
            config.hidden_size,
            config.max_position_embeddings,
            config.type_vocab_size,
            config.hidden_dropout_prob,
            config.layer_norm_eps,
            config.initializer_range,
            name="embeddings",
        )
        block = TransformerBlock(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.hidden_act,
            config.hidden_dropout_prob,
            config.attention_probs_dropout_prob,
            config.layer_norm_eps,
            config.initializer_range,
            name="block",
        )
        self.recursive_encoder = RecursiveEncoder(
            block, config.num_hidden_layers, config.bottleneck_size, config.use_adapter, name="recursive_encoder"
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            self.embeddings.build()
            self.recursive_encoder.build()
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> dict[str, Any]:
        """Encodes a batch; see the class for the shapes."""
        ids = _checked_ids(inputs)
        mask = inputs.get("attention_mask")
        bias = attention_bias(tf.ones_like(ids) if mask is None else mask)
        embedded = self.embeddings(ids, token_type_ids=inputs.get("token_type_ids"), training=training)
        hidden_states, attentions = self.recursive_encoder(embedded, bias, training=training)
        return {
            "last_hidden_state": hidden_states[-1],
            "hidden_states": hidden_states,
            "attentions": attentions,
        }

    def add_adapters(self) -> None:
        """Adds newly initialised adapters where the checkpoint has none, as the original's adapter tuning does."""
        if not self.config.use_adapter:
            self.recursive_encoder.add_adapters()
            self.config = self.config.replace(use_adapter=True)


class _Head(PretrainedModel):
    """A model of an encoder and a few layers of its own, whose compile() without a loss uses the head's loss."""

    def __init__(self, config: MiniAlbertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.encoder = MiniAlbertModel(config, name="encoder")

    def default_loss(self) -> keras.losses.Loss:
        """Returns the loss that `compile()` takes when it is given none."""
        raise NotImplementedError

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """Configures training as `keras.Model.compile`; without a loss the head's own is taken."""
        # Keras 3 would choose XLA by itself, which compiles anew for every length of batch.
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, loss=self.default_loss() if loss is None else loss, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """Returns what `compile_from_config` needs."""
        return super().get_compile_config()

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as the saved one was; Keras asks this of a class with a compile() of its own."""
        self.compile(**keras.utils.deserialize_keras_object(config))
        if hasattr(self.optimizer, "build"):
            self.optimizer.build(self.trainable_variables)

    def train_adapters_only(self) -> TrainableReport:
        """Freezes embeddings, projector and block; adapters and head stay trainable.

        Creates adapters if there are none. Compile the model after this call.

        Returns:
            What is trainable now; print it.
        """
        self.encoder.add_adapters()
        self.config = self.encoder.config
        self.encoder.embeddings.trainable = False
        self.encoder.recursive_encoder.block.trainable = False
        return self.trainable_report()

    def trainable_report(self) -> TrainableReport:
        """Returns the number of parameters of each part of the model, trainable and frozen."""
        recursive = self.encoder.recursive_encoder
        adapters = [*recursive.attention_adapters, *recursive.feed_forward_adapters]
        head = [layer for layer in self.layers if layer is not self.encoder]
        return TrainableReport.count(
            {"embeddings": [self.encoder.embeddings], "block": [recursive.block], "adapters": adapters, "head": head}
        )


@keras.utils.register_keras_serializable("minialbert_tf")
class MiniAlbertForTokenClassification(_Head):
    """Dropout → Linear on every position, for named entity recognition.

    Input as `MiniAlbertModel`; output: logits (B, L, num_labels). Labels for `fit`: ids (B, L), -100 where there is
    none.
    """

    head_rows = names.CLASSIFIER_ROWS

    def __init__(self, config: MiniAlbertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.head_dropout, self.classifier = _classifier(config)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            self.classifier.build((None, None, self.config.hidden_size))
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """Returns logits (B, L, num_labels)."""
        hidden = self.encoder(inputs, training=training)["last_hidden_state"]
        return self.classifier(self.head_dropout(hidden, training=training))

    def default_loss(self) -> keras.losses.Loss:
        """Returns the mean cross-entropy over labelled positions."""
        return TokenCrossEntropy()


@keras.utils.register_keras_serializable("minialbert_tf")
class MiniAlbertForSequenceClassification(_Head):
    """Dropout → Linear on position 0, without a pooler, for classification and regression of texts or pairs.

    Input as `MiniAlbertModel`; output: logits (B, num_labels). Labels for `fit`: class ids (B,), numbers (B,) or 0/1
    targets (B, num_labels), by the config's problem_type or, without one, inferred as `SequenceLoss` says.
    """

    head_rows = names.CLASSIFIER_ROWS

    def __init__(self, config: MiniAlbertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.head_dropout, self.classifier = _classifier(config)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            self.classifier.build((None, self.config.hidden_size))
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """Returns logits (B, num_labels)."""
        hidden = self.encoder(inputs, training=training)["last_hidden_state"][:, 0]
        return self.classifier(self.head_dropout(hidden, training=training))

    def default_loss(self) -> keras.losses.Loss:
        """Returns the loss of the config's problem_type."""
        return SequenceLoss(self.config.problem_type)


@keras.utils.register_keras_serializable("minialbert_tf")
class MiniAlbertForMaskedLM(_Head):
    """Linear(H) → exact GELU → LayerNorm → Linear(V), not tied to the embeddings.

    Input as `MiniAlbertModel`; output: logits (B, L, V). Labels for `fit`: ids (B, L), -100 at positions that are
    not predicted.
    """

    head_rows = names.MASKED_LM_ROWS

    def __init__(self, config: MiniAlbertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        kernel = keras.initializers.RandomNormal(stddev=config.initializer_range)
        self.vocab_transform = keras.layers.Dense(config.hidden_size, kernel_initializer=kernel, name="vocab_transform")
        self.vocab_norm = keras.layers.LayerNormalization(epsilon=MASKED_LM_NORM_EPSILON, name="vocab_norm")
        self.vocab_projector = _linear(config.vocab_size, config, "vocab_projector")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            for layer in (self.vocab_transform, self.vocab_norm, self.vocab_projector):
                layer.build((None, None, self.config.hidden_size))
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """Returns logits (B, L, V)."""
        hidden = self.vocab_transform(self.encoder(inputs, training=training)["last_hidden_state"])
        return self.vocab_projector(self.vocab_norm(tf.nn.gelu(hidden, approximate=False)))

    def default_loss(self) -> keras.losses.Loss:
        """Returns the mean cross-entropy over masked positions."""
        return TokenCrossEntropy()


MASKED_LM_NORM_EPSILON = 1e-12


def _linear(units: int, config: MiniAlbertConfig, name: str) -> keras.layers.Dense:
    kernel = keras.initializers.RandomNormal(stddev=config.initializer_range)
    # Logits stay in float32 under mixed precision: half precision makes the loss coarse.
    return keras.layers.Dense(units, kernel_initializer=kernel, dtype="float32", name=name)


def _classifier(config: MiniAlbertConfig) -> tuple[keras.layers.Dropout, keras.layers.Dense]:
    rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
    return keras.layers.Dropout(rate, name="head_dropout"), _linear(config.num_labels or 2, config, "classifier")


def _checked_ids(inputs: Inputs) -> tf.Tensor:
    if not isinstance(inputs, dict) or "input_ids" not in inputs or inputs.keys() - set(INPUT_NAMES):
        received = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
        raise InputError(f"Inputs must be a dict of input_ids and optionally {INPUT_NAMES[1:]}. Received: {received}")
    return inputs["input_ids"]

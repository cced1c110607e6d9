"""The MiniALBERT encoder and its heads, as Keras models that are loaded from and saved as checkpoints."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.attention import attention_bias
from minialbert_tf.checkpoints import names
from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.embeddings import FactorizedEmbeddings
from minialbert_tf.encoder import RecursiveEncoder
from minialbert_tf.losses import SequenceLoss, TokenCrossEntropy
from minialbert_tf.pretrained import (
    Head,
    Inputs,
    PretrainedModel,
    checked_ids,
    new_block,
    new_classifier,
    new_linear,
)
from minialbert_tf.trainable import TrainableReport

MASKED_LM_NORM_EPSILON = 1e-12


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
        self.recursive_encoder = RecursiveEncoder(
            new_block(config, name="block"),
            config.num_hidden_layers,
            config.bottleneck_size,
            config.use_adapter,
            name="recursive_encoder",
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
        ids = checked_ids(inputs)
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


class _Head(Head):
    """A head on a MiniALBERT encoder."""

    encoder_class = MiniAlbertModel

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
        return TrainableReport.of(
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
        self.head_dropout, self.classifier = new_classifier(config)
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
        self.head_dropout, self.classifier = new_classifier(config)
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
        self.vocab_projector = new_linear(config.vocab_size, config, "vocab_projector")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            for layer in (self.vocab_transform, self.vocab_norm, self.vocab_projector):
                layer.build((None, None, self.config.hidden_size))
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """Returns logits (B, L, V)."""
        return self.logits(self.encoder(inputs, training=training)["last_hidden_state"])

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Returns the logits (..., V) of hidden states (..., H)."""
        hidden = self.vocab_transform(hidden)
        return self.vocab_projector(self.vocab_norm(tf.nn.gelu(hidden, approximate=False)))

    def default_loss(self) -> keras.losses.Loss:
        """Returns the mean cross-entropy over masked positions."""
        return TokenCrossEntropy()

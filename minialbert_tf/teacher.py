"""BERT, as the teacher of a MiniALBERT: the same block, with weights of its own for every layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.attention import attention_bias
from minialbert_tf.checkpoints import names
from minialbert_tf.config import TransformerConfig, read_config
from minialbert_tf.embeddings import FactorizedEmbeddings
from minialbert_tf.encoder import ACTIVATIONS
from minialbert_tf.errors import InputError
from minialbert_tf.losses import TokenCrossEntropy
from minialbert_tf.models import MiniAlbertForTokenClassification
from minialbert_tf.pretrained import Head, Inputs, PretrainedModel, checked_ids, new_block, new_classifier


@dataclass(frozen=True)
class BertConfig(TransformerConfig):
    """Sizes and options of a BERT.

    Raises:
        InputError: If a field is out of its range or the fields contradict each other.
    """

    model_types: ClassVar[tuple[str, ...]] = ("bert",)

    vocab_size: int = 30522
    num_hidden_layers: int = 12
    model_type: str = "bert"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds a config from the content of a config.json.

        Raises:
            InputError: If a value has the wrong type or range, or it is the config of another model.
        """
        config = super().from_dict(values)
        if "embedding_size" in config.extra:
            raise InputError("A BERT config must not give embedding_size; this is a MiniALBERT.")
        positions = config.extra.get("position_embedding_type", "absolute")
        if positions != "absolute":
            raise InputError(f"position_embedding_type must be absolute. Received: {positions!r}")
        return config


@keras.utils.register_keras_serializable("minialbert_tf")
class BertModel(PretrainedModel):
    """BERT's encoder (arXiv 1810.04805): embeddings and N blocks, each with weights of its own.

    Input and output as `MiniAlbertModel`: hidden states (B, L, H), N+1 of them, and N softmax maps (B, A, L, L).
    """

    config_class = BertConfig
    naming = names.BERT

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.embeddings = FactorizedEmbeddings(
            config.vocab_size,
            config.hidden_size,
            config.hidden_size,
            config.max_position_embeddings,
            config.type_vocab_size,
            config.hidden_dropout_prob,
            config.layer_norm_eps,
            config.initializer_range,
            name="embeddings",
        )
        self.blocks = [new_block(config, name=f"block_{k}") for k in range(config.num_hidden_layers)]
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            self.embeddings.build()
            for block in self.blocks:
                block.build()
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> dict[str, Any]:
        """Encodes a batch; see the class for the shapes."""
        ids = checked_ids(inputs)
        mask = inputs.get("attention_mask")
        bias = attention_bias(tf.ones_like(ids) if mask is None else mask)
        hidden = self.embeddings(ids, token_type_ids=inputs.get("token_type_ids"), training=training)
        hidden_states, attentions = [hidden], []
        for block in self.blocks:
            hidden, probabilities = block(hidden, bias, training=training)
            hidden_states.append(hidden)
            attentions.append(probabilities)
        return {
            "last_hidden_state": hidden,
            "hidden_states": tuple(hidden_states),
            "attentions": tuple(attentions),
        }


class _BertHead(Head):
    """A head on a BERT encoder."""

    config_class = BertConfig
    naming = names.BERT
    encoder_class = BertModel


@keras.utils.register_keras_serializable("minialbert_tf")
class BertForMaskedLM(_BertHead):
    """Linear(H) → activation → LayerNorm → the word embedding table as decoder, plus a bias.

    Input as `BertModel`; output: logits (B, L, V). Labels for `fit`: ids (B, L), -100 at positions that are not
    predicted.
    """

    head_rows = names.BERT_MASKED_LM_ROWS
    tied = names.BERT_MASKED_LM_TIED

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        kernel = keras.initializers.RandomNormal(stddev=config.initializer_range)
        self.transform = keras.layers.Dense(config.hidden_size, kernel_initializer=kernel, name="transform")
        self.transform_norm = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name="transform_norm")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; their shapes follow from the config alone."""
        if not self.built:
            self.transform.build((None, None, self.config.hidden_size))
            self.transform_norm.build((None, None, self.config.hidden_size))
            self.decoder_bias = self.add_weight(
                shape=(self.config.vocab_size,), initializer="zeros", dtype="float32", name="decoder_bias"
            )
            self.built = True

    def call(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """Returns logits (B, L, V)."""
        return self.logits(self.encoder(inputs, training=training)["last_hidden_state"])

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Returns the logits (..., V), float32, of hidden states (..., H)."""
        hidden = self.transform_norm(ACTIVATIONS[self.config.hidden_act](self.transform(hidden)))
        table = tf.convert_to_tensor(self.encoder.embeddings.word_embeddings, tf.float32)
        return tf.matmul(tf.cast(hidden, tf.float32), table, transpose_b=True) + tf.convert_to_tensor(self.decoder_bias)

    def default_loss(self) -> keras.losses.Loss:
        """Returns the mean cross-entropy over masked positions."""
        return TokenCrossEntropy()


@keras.utils.register_keras_serializable("minialbert_tf")
class BertForTokenClassification(_BertHead):
    """Dropout → Linear on every position, as `MiniAlbertForTokenClassification`."""

    head_rows = names.CLASSIFIER_ROWS

    def __init__(self, config: BertConfig, **kwargs: Any) -> None:
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


def load_teacher(path_or_hub_id: str | Path) -> BertModel | BertForMaskedLM:
    """Loads a BERT with its masked-LM head where the checkpoint has one, else the encoder alone.

    Raises:
        CheckpointError: If the checkpoint is missing, unsafe, damaged, or does not fit.
        InputError: If it is no BERT.
    """
    encoder = BertModel.from_pretrained(path_or_hub_id)
    ignored = encoder.load_report.ignored if encoder.load_report else ()
    has_head = any(row.name in ignored for row in names.BERT_MASKED_LM_ROWS)
    return BertForMaskedLM.from_pretrained(path_or_hub_id) if has_head else encoder


def is_bert(path_or_hub_id: str | Path) -> bool:
    """Returns whether a checkpoint is a BERT's; a MiniALBERT's may say "bert" as well, but gives E."""
    values = read_config(path_or_hub_id)
    return isinstance(values, Mapping) and values.get("model_type") == "bert" and "embedding_size" not in values


def token_classifier_class(path_or_hub_id: str | Path) -> type[PretrainedModel]:
    """Returns the class of the token classifier that a checkpoint makes: of a MiniALBERT or of a BERT."""
    return BertForTokenClassification if is_bert(path_or_hub_id) else MiniAlbertForTokenClassification

"""Layer-to-layer distillation of a BERT into a MiniALBERT."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from tensorflow import keras

from minialbert_tf.distillation.layer_map import LayerMap
from minialbert_tf.distillation.losses import (
    AttentionDivergence,
    CosineDistance,
    LossWeights,
    MaskedCrossEntropy,
    OutputDivergence,
)
from minialbert_tf.errors import InputError
from minialbert_tf.losses import IGNORED_LABEL, global_mean
from minialbert_tf.pretrained import Head, Inputs, PretrainedModel


class _Untracked:
    """Hides a model from Keras, which would train it and save it with the model that holds it."""

    def __init__(self, model: PretrainedModel) -> None:
        self.model = model


class Distiller(keras.Model):
    """Trains a student to do in N recursions what a teacher does in its layers (MiniALBERT, arXiv 2210.06425).

        total = w_mlm · mlm + w_embedding · embedding + w_attention · Σ_k attention_k + w_hidden · Σ_k hidden_k
                + w_output · output

    The teacher runs in inference mode; it is neither trained nor part of the distiller's weights. Terms exist as far
    as both models have what they compare: mlm needs a student with a masked-LM head, output needs two. A teacher
    whose hidden states have another size is compared with a learned projection of the student's, as in TinyBERT
    (arXiv 1909.10351); the projection is not part of the student.

    Data for `fit`: inputs as `MiniAlbertModel`, and labels (B, L), -100 at positions that are not masked. The logs
    hold the total as `loss`, each term, and the number of `tokens` of the batch. Under a distribution strategy all of
    that, and the update, is of the batch of all replicas.
    """

    def __init__(
        self,
        student: PretrainedModel,
        teacher: PretrainedModel,
        layer_map: LayerMap | Iterable[int] | None = None,
        weights: LossWeights | None = None,
        temperature: float = 1.0,
        accumulation: int = 1,
        max_masked: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Pairs two models.

        Args:
            student: A `MiniAlbertForMaskedLM` or `MiniAlbertModel`.
            teacher: A `BertForMaskedLM` or `BertModel`.
            layer_map: The teacher's layer for each recursion; by default spread evenly.
            weights: Of the terms; by default the paper's. A term of weight 0 is not computed; only that of the
                embeddings is, as it costs nothing.
            temperature: Softens the distributions of the output term.
            accumulation: Parts that a training batch is cut into; gradients are averaged over them, so that memory
                holds only one. Must divide the batch size.
            max_masked: Most masked positions in a row of labels; XLA must know it, else any number will do. Further
                ones are left out.

        Raises:
            InputError: If the models' vocabularies, layers or, with an attention term, heads do not go together.
        """
        super().__init__(**kwargs)
        self.student = student
        self._teacher = _Untracked(teacher)
        self.loss_weights = LossWeights() if weights is None else weights
        self.accumulation = accumulation
        self.max_masked = max_masked
        self.projection: keras.layers.Dense | None = None
        if student.config.hidden_size != teacher.config.hidden_size:
            self.projection = keras.layers.Dense(teacher.config.hidden_size, name="projection")
            self.projection.build((None, None, student.config.hidden_size))
        self.terms = self._choose_terms()
        _check_pair(student, teacher, self.terms, self.loss_weights)
        self.layer_map = LayerMap.of(layer_map, student.config.num_hidden_layers, teacher.config.num_hidden_layers)
        self._attention = AttentionDivergence()
        self._cosine = CosineDistance()
        self._output = OutputDivergence(temperature)
        self._cross_entropy = MaskedCrossEntropy()
        self.built = True

    def _choose_terms(self) -> tuple[str, ...]:
        """Returns the terms that are computed: those with a weight, as far as the models have what they compare."""
        weights = self.loss_weights
        student_predicts, teacher_predicts = hasattr(self.student, "logits"), hasattr(self.teacher, "logits")
        chosen = {
            "mlm": weights.mlm and student_predicts,
            "embedding": weights.embedding or self.projection is None,
            "attention": weights.attention,
            "hidden": weights.hidden,
            "output": weights.output and student_predicts and teacher_predicts,
        }
        return tuple(term for term, wanted in chosen.items() if wanted)

    @property
    def teacher(self) -> PretrainedModel:
        """The teacher."""
        return self._teacher.model

    def call(self, inputs: Inputs, training: bool = False) -> Any:
        """Runs the student."""
        return self.student(inputs, training=training)

    def compute_losses(
        self, inputs: Inputs, labels: tf.Tensor, training: bool = False, shares: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Compares student and teacher on a batch.

        Args:
            inputs: As `MiniAlbertModel` takes them.
            labels: Ids (B, L) of the tokens behind the masked positions, -100 elsewhere.
            training: Whether the student uses dropout.
            shares: What the means over tokens and over masked positions are multiplied with, (2,), so that the
                average over replicas is the mean over all; None: nothing.

        Returns:
            Scalars: `<term>_loss` for each of `terms`, and total_loss.
        """
        mask = _mask(inputs)
        taught = _encoder(self.teacher)(inputs, training=False)
        learned = _encoder(self.student)(inputs, training=training)
        layers = self._layer_losses(taught, learned, mask)
        outputs = self._output_losses(taught["last_hidden_state"], learned["last_hidden_state"], labels)
        if shares is not None:
            layers = {name: loss * shares[0] for name, loss in layers.items()}
            outputs = {name: loss * shares[1] for name, loss in outputs.items()}
        losses = {**layers, **outputs}
        total = tf.add_n([getattr(self.loss_weights, term) * losses[f"{term}_loss"] for term in self.terms])
        return {**losses, "total_loss": total}

    def _layer_losses(self, taught: Any, learned: Any, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        pairs = list(enumerate(self.layer_map.layers, start=1))
        losses = {}
        if "embedding" in self.terms:
            losses["embedding_loss"] = self._hidden_loss(taught, learned, [(0, 0)], mask)
        if "attention" in self.terms:
            maps = [(taught["attentions"][layer - 1], learned["attentions"][k - 1]) for k, layer in pairs]
            losses["attention_loss"] = tf.add_n([self._attention(*both, mask) for both in maps])
        if "hidden" in self.terms:
            losses["hidden_loss"] = self._hidden_loss(taught, learned, pairs, mask)
        return losses

    def _hidden_loss(self, taught: Any, learned: Any, pairs: list[tuple[int, int]], mask: tf.Tensor) -> tf.Tensor:
        losses = []
        for k, layer in pairs:
            hidden = learned["hidden_states"][k]
            hidden = hidden if self.projection is None else self.projection(hidden)
            losses.append(self._cosine(taught["hidden_states"][layer], hidden, mask))
        return tf.add_n(losses)

    def _output_losses(self, taught: tf.Tensor, learned: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        losses: dict[str, tf.Tensor] = {}
        if not {"mlm", "output"} & set(self.terms):
            return losses
        # Only the masked positions: logits over the vocabulary cost as much as many layers.
        masked = tf.cast(tf.not_equal(labels, IGNORED_LABEL), tf.int32)
        if self.max_masked is None:
            most = tf.reduce_max(tf.reduce_sum(masked, axis=-1))
        else:  # a batch of short rows may have less room than that
            most = tf.minimum(self.max_masked, tf.shape(labels)[1])
        positions = tf.math.top_k(masked, most).indices  # (B, most), masked ones first
        labels, taught, learned = (tf.gather(values, positions, batch_dims=1) for values in (labels, taught, learned))
        logits = self.student.logits(learned)
        if "mlm" in self.terms:
            losses["mlm_loss"] = self._cross_entropy(labels, logits)
        if "output" in self.terms:
            losses["output_loss"] = self._output(
                self.teacher.logits(taught), logits, tf.not_equal(labels, IGNORED_LABEL)
            )
        return losses

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Configures training as `keras.Model.compile`; the loss is the distiller's own.

        Raises:
            InputError: If XLA is asked for without `max_masked`, and a term needs it.
        """
        # Keras 3 would choose XLA by itself, which compiles anew for every length of batch.
        kwargs.setdefault("jit_compile", False)
        if kwargs["jit_compile"] and self.max_masked is None and {"mlm", "output"} & set(self.terms):
            raise InputError("XLA (jit_compile) needs max_masked, the most masked positions in a row. Received: None")
        super().compile(optimizer=optimizer, **kwargs)
        self.distribute_reduction_method = "first"  # of tf-keras, which would add up what is a mean over all replicas

    def train_step(self, data: tuple[Inputs, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Updates the student once and returns the losses of the batch."""
        inputs, labels = data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        losses, gradients = self._accumulate(inputs, labels)
        # The optimizer adds up the gradients of all replicas before it clips and applies them.
        gradients = [gradient / replicas for gradient in gradients] if replicas > 1 else gradients
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        tokens = tf.cast(tf.reduce_sum(_mask(inputs)), tf.float32) * replicas
        figures = {"loss": losses.pop("total_loss"), **losses, "tokens": tokens}
        means = tf.unstack(global_mean(tf.stack(list(figures.values()))))
        return dict(zip(figures, means, strict=True))

    def _accumulate(self, inputs: Inputs, labels: tf.Tensor) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        """Returns losses and gradients, averaged over the parts of the batch."""
        parts = self.accumulation

        def cut(batch: tf.Tensor) -> tf.Tensor:
            return tf.reshape(batch, tf.concat([[parts, -1], tf.shape(batch)[1:]], axis=0))

        data = tf.nest.map_structure(cut, (inputs, labels))
        data = (*data, self._shares(_mask(data[0]), data[1]))
        if parts == 1:
            return self._differentiate(*tf.nest.map_structure(lambda batch: batch[0], data))

        def add(part: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
            found = self._differentiate(*tf.nest.map_structure(lambda batch: batch[part], data))
            return part + 1, tf.nest.map_structure(lambda total, value: total + value / parts, sums, found)

        names = (*(f"{term}_loss" for term in self.terms), "total_loss")
        nothing = ({name: 0.0 for name in names}, [tf.zeros(tuple(v.shape)) for v in self.trainable_variables])
        return tf.while_loop(lambda part, _: part < parts, add, (0, nothing))[1]

    def _shares(self, mask: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns what the losses here count beside the mean over all replicas: tokens and masked positions, (P, 2).

        Args:
            mask: Of tokens, (P, B, L), for each part of the batch.
            labels: As for `fit`, (P, B, L).
        """
        masked = tf.reduce_sum(tf.cast(tf.not_equal(labels, IGNORED_LABEL), tf.int32), axis=-1)
        masked = masked if self.max_masked is None else tf.minimum(masked, self.max_masked)
        counts = tf.stack([tf.reduce_sum(mask, axis=(1, 2)), tf.reduce_sum(masked, axis=-1)], axis=-1)
        counts = tf.cast(counts, tf.float32)
        return tf.math.divide_no_nan(counts, global_mean(counts))

    def _differentiate(
        self, inputs: Inputs, labels: tf.Tensor, shares: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        # Keras 3 wraps tf.Variables; the gradient of one that no term depends on needs the variable itself.
        variables = [v if isinstance(v, tf.Variable) else v.value for v in self.trainable_variables]
        with tf.GradientTape() as tape:
            losses = self.compute_losses(inputs, labels, training=True, shares=shares)
        gradients = tape.gradient(losses["total_loss"], variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return losses, [tf.convert_to_tensor(gradient) for gradient in gradients]


def _mask(inputs: Inputs) -> tf.Tensor:
    mask = inputs.get("attention_mask")
    return tf.ones_like(inputs["input_ids"]) if mask is None else mask


def _encoder(model: PretrainedModel) -> Any:
    return model.encoder if isinstance(model, Head) else model


def _check_pair(
    student: PretrainedModel, teacher: PretrainedModel, terms: tuple[str, ...], weights: LossWeights
) -> None:
    for name, model in (("student", student), ("teacher", teacher)):
        if isinstance(model, Head) and not hasattr(model, "logits"):
            raise InputError(f"The {name} must be an encoder or a masked-LM model. Received: {type(model).__name__}")
    if student.config.vocab_size != teacher.config.vocab_size or not _same_tokenizer(student, teacher):
        raise InputError(
            "Student and teacher must use the same vocabulary. Received: "
            f"student {student.config.vocab_size} pieces, teacher {teacher.config.vocab_size} pieces"
        )
    if student.config.num_attention_heads != teacher.config.num_attention_heads and "attention" in terms:
        raise InputError(
            "Student and teacher must have equally many attention heads, unless the weight of the attention loss is 0. "
            f"Received: student {student.config.num_attention_heads}, teacher {teacher.config.num_attention_heads}"
        )
    if not any(getattr(weights, term) for term in terms):
        raise InputError(f"One loss that both models have must have a weight above 0. Received: {weights}")


def _same_tokenizer(student: PretrainedModel, teacher: PretrainedModel) -> bool:
    first, second = student.tokenizer, teacher.tokenizer
    return first is None or second is None or first.same_as(second)

"""Distillation against the original's numbers, under whichever Keras TF_USE_LEGACY_KERAS selects."""

import numpy as np
import pytest
import tensorflow as tf
from distillation_golden import PAIRS, load_batch, load_pair
from golden_values import GRADIENT_TOLERANCE
from tensorflow import keras

from minialbert_tf.distillation import Distiller, LossWeights
from minialbert_tf.errors import InputError
from minialbert_tf.models import MiniAlbertForMaskedLM, MiniAlbertForTokenClassification
from minialbert_tf.teacher import BertForMaskedLM
from minialbert_tf.tokenization import WordPieceTokenizer

TERMS = ("mlm", "embedding", "attention", "hidden", "output")
TOLERANCE = 1e-5  # relative
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def differences(distiller, inputs, labels, expected):
    """Relative difference of each loss from the original's."""
    losses = distiller.compute_losses(inputs, labels)
    assert losses.keys() == {f"{term}_loss" for term in (*TERMS, "total")}
    return {name: abs(float(loss) / float(expected[name]) - 1) for name, loss in losses.items()}


@pytest.mark.parametrize("name", PAIRS)
def test_every_term_and_the_total_are_the_originals(name):
    found = differences(Distiller(*load_pair(name)), *load_batch(name))
    assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_the_total_are_the_originals(name):
    student, teacher = load_pair(name)
    inputs, labels, expected = load_batch(name)
    with tf.GradientTape() as tape:
        total = Distiller(student, teacher).compute_losses(inputs, labels)["total_loss"]
    rows = student.weight_rows()
    gradients = tape.gradient(total, [row.variable(student) for row in rows])
    reference = dict(zip(expected["grad_names"], expected["grad_l2"], strict=True))
    assert len(reference) == len(rows)
    for row, gradient in zip(rows, gradients, strict=True):
        norm = reference[student.naming.in_file(row.name, student.naming.head_prefix)]
        found = float(tf.norm(tf.convert_to_tensor(gradient)))
        assert found == pytest.approx(norm, rel=GRADIENT_TOLERANCE, abs=1e-7), row.name


def test_the_embedding_term_joins_the_total_by_its_weight():
    inputs, labels, expected = load_batch("distillation")
    distiller = Distiller(*load_pair("distillation"), weights=LossWeights(embedding=3))
    total = float(distiller.compute_losses(inputs, labels)["total_loss"])
    assert total == pytest.approx(float(expected["total_loss"] + 3 * expected["embedding_loss"]), rel=TOLERANCE)


class OffByOneEpsilon:
    """A loss that is wrong by a little more than the tolerance."""

    def __init__(self, loss):
        self._loss = loss

    def __call__(self, *arguments):
        return self._loss(*arguments) * (1 + 20 * TOLERANCE)


@pytest.mark.parametrize(
    ("attribute", "spoilt"),
    [
        ("_cross_entropy", {"mlm_loss", "total_loss"}),
        ("_attention", {"attention_loss"}),  # too small a part of the total to show there
        ("_cosine", {"embedding_loss", "hidden_loss", "total_loss"}),
        ("_output", {"output_loss", "total_loss"}),
    ],
)
def test_one_wrong_term_is_noticed(attribute, spoilt):
    distiller = Distiller(*load_pair("distillation"))
    setattr(distiller, attribute, OffByOneEpsilon(getattr(distiller, attribute)))
    found = differences(distiller, *load_batch("distillation"))
    assert {name for name, difference in found.items() if difference > TOLERANCE} == spoilt


def test_another_layer_map_gives_other_losses():
    found = differences(Distiller(*load_pair("distillation"), layer_map=[1, 4, 6]), *load_batch("distillation"))
    assert {name for name, difference in found.items() if difference > TOLERANCE} == {
        "attention_loss",
        "hidden_loss",
        "total_loss",
    }


def repeated_batch(times):
    inputs, labels, _ = load_batch("distillation")
    return tf.nest.map_structure(lambda batch: tf.concat([batch] * times, axis=0), (inputs, labels))


def test_fit_lowers_every_term_and_leaves_the_teacher_alone():
    student, teacher = load_pair("distillation", **NO_DROPOUT)
    before = [np.array(variable) for variable in teacher.weights]
    distiller = Distiller(student, teacher)
    distiller.compile(keras.optimizers.Adam(3e-3))
    history = distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(1)), epochs=30, verbose=0).history
    assert history.keys() == {"loss", "tokens", *(f"{term}_loss" for term in TERMS)}
    for name in ("loss", "mlm_loss", "hidden_loss", "output_loss"):
        assert history[name][-1] < 0.8 * history[name][0], name
    for variable, value in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    assert len(distiller.variables) - len(student.variables) <= 1  # Keras may count steps; nothing of the teacher


@pytest.mark.parametrize("term", ["embedding", "attention", "hidden"])
def test_each_term_can_be_trained_alone(term):
    weights = LossWeights(**{name: 100.0 * (name == term) for name in TERMS})
    distiller = Distiller(*load_pair("distillation_no_adapters", **NO_DROPOUT), weights=weights)
    assert set(distiller.terms) == {"embedding", term}
    distiller.compile(keras.optimizers.Adam(1e-3))
    history = distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(1)), epochs=20, verbose=0).history
    assert history[f"{term}_loss"][-1] < 0.9 * history[f"{term}_loss"][0]


def test_the_saved_student_holds_nothing_of_the_teacher(tmp_path):
    student, teacher = load_pair("distillation")
    distiller = Distiller(student, teacher)
    distiller.compile("sgd")
    distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(1)), verbose=0)
    student.save_pretrained(tmp_path / "student")
    again = MiniAlbertForMaskedLM.from_pretrained(tmp_path / "student")
    assert again.count_params() == student.count_params() == distiller.count_params()


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(accumulation):
    def train(parts):
        distiller = Distiller(*load_pair("distillation", **NO_DROPOUT), accumulation=parts)
        distiller.compile(keras.optimizers.SGD(0.1))
        history = distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(4)), epochs=3, verbose=0)
        return history.history, distiller.student.get_weights()

    whole, in_parts = train(1), train(accumulation)
    for name, values in whole[0].items():
        np.testing.assert_allclose(in_parts[0][name], values, rtol=1e-5, err_msg=name)
    for first, second in zip(whole[1], in_parts[1], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_xla_computes_the_same_updates():
    def train(xla):
        student, teacher = load_pair("distillation_no_adapters", **NO_DROPOUT)
        before = student.get_weights()
        distiller = Distiller(student, teacher, accumulation=2, max_masked=9)
        distiller.compile(keras.optimizers.SGD(1.0), jit_compile=xla)
        history = distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(2)), verbose=0).history
        return history, [after - value for after, value in zip(student.get_weights(), before, strict=True)]

    plain, compiled = train(False), train(True)
    for name, values in plain[0].items():
        np.testing.assert_allclose(compiled[0][name], values, rtol=1e-5, err_msg=name)
    for first, second in zip(plain[1], compiled[1], strict=True):
        assert np.linalg.norm(first - second) <= GRADIENT_TOLERANCE * np.linalg.norm(first) + 1e-7


def test_xla_must_know_how_many_positions_are_masked():
    student, teacher = load_pair("distillation")
    with pytest.raises(InputError, match="needs max_masked"):
        Distiller(student, teacher).compile("sgd", jit_compile=True)
    Distiller(student.encoder, teacher).compile("sgd", jit_compile=True)


def test_room_for_more_masked_positions_changes_nothing():
    distiller = Distiller(*load_pair("distillation"), max_masked=12)
    found = differences(distiller, *load_batch("distillation"))
    assert max(found.values()) <= TOLERANCE, found


def teacher_like(**changes):
    _, teacher = load_pair("distillation")
    return BertForMaskedLM(teacher.config.replace(**changes))


def test_a_teacher_without_head_has_no_output_term():
    student, teacher = load_pair("distillation")
    inputs, labels, _ = load_batch("distillation")
    losses = Distiller(student, teacher.encoder).compute_losses(inputs, labels)
    assert losses.keys() == {f"{term}_loss" for term in ("mlm", "embedding", "attention", "hidden", "total")}


def test_a_student_without_head_learns_from_the_layers_alone():
    student, teacher = load_pair("distillation")
    inputs, labels, expected = load_batch("distillation")
    losses = Distiller(student.encoder, teacher).compute_losses(inputs, labels)
    assert losses.keys() == {f"{term}_loss" for term in ("embedding", "attention", "hidden", "total")}
    total = 3 * (expected["attention_loss"] + expected["hidden_loss"])
    assert float(losses["total_loss"]) == pytest.approx(float(total), rel=TOLERANCE)


def test_a_wider_teacher_is_compared_through_a_projection_that_learns():
    student, _ = load_pair("distillation", **NO_DROPOUT)
    distiller = Distiller(student, teacher_like(hidden_size=64), weights=LossWeights(attention=0, output=0))
    assert distiller.terms == ("mlm", "hidden")
    before = np.array(distiller.projection.kernel)
    assert before.shape == (48, 64)
    distiller.compile(keras.optimizers.Adam(3e-3))
    history = distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(1)), epochs=20, verbose=0).history
    assert history["hidden_loss"][-1] < 0.8 * history["hidden_loss"][0]
    assert np.abs(np.array(distiller.projection.kernel) - before).max() > 1e-3
    assert distiller.student.count_params() == distiller.count_params() - 48 * 64 - 64


def test_other_heads_need_the_attention_term_off():
    student, _ = load_pair("distillation")
    teacher = teacher_like(num_attention_heads=6)
    with pytest.raises(InputError, match=r"equally many attention heads.*Received: student 4, teacher 6"):
        Distiller(student, teacher)
    inputs, labels, _ = load_batch("distillation")
    losses = Distiller(student, teacher, weights=LossWeights(attention=0)).compute_losses(inputs, labels)
    assert "attention_loss" not in losses


def test_another_vocabulary_is_refused():
    student, teacher = load_pair("distillation")
    with pytest.raises(InputError, match=r"same vocabulary. Received: student 320 pieces, teacher 321 pieces"):
        Distiller(student, teacher_like(vocab_size=321))
    student.tokenizer, teacher.tokenizer = (
        WordPieceTokenizer.train(["a b c"], 20, lowercase=lowercase) for lowercase in (True, False)
    )
    with pytest.raises(InputError, match=r"same vocabulary"):
        Distiller(student, teacher)


def test_layers_that_do_not_go_together_are_refused():
    student, _ = load_pair("distillation")
    with pytest.raises(InputError, match=r"must divide the teacher's layers"):
        Distiller(student, teacher_like(num_hidden_layers=5))


def test_models_without_anything_to_compare_are_refused():
    student, teacher = load_pair("distillation")
    with pytest.raises(InputError, match=r"One loss that both models have must have a weight"):
        Distiller(student, teacher, weights=LossWeights(0, 0, 0, 0, 0))
    with pytest.raises(InputError, match=r"student must be an encoder or a masked-LM model. Received: MiniAlb"):
        Distiller(MiniAlbertForTokenClassification(student.config), teacher)


def test_mixed_precision_stays_close():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        distiller = Distiller(*load_pair("distillation", **NO_DROPOUT))
        inputs, labels, expected = load_batch("distillation")
        losses = distiller.compute_losses(inputs, labels)
        for name, loss in losses.items():
            assert loss.dtype == tf.float32
            assert float(loss) == pytest.approx(float(expected[name]), rel=0.05), name
        distiller.compile(keras.optimizers.Adam(3e-3))
        history = distiller.fit(tf.data.Dataset.from_tensors(repeated_batch(1)), epochs=10, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
    finally:
        keras.mixed_precision.set_global_policy("float32")

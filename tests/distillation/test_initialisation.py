"""A student's first weights, under whichever Keras TF_USE_LEGACY_KERAS selects."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from tiny_runs import bert_config, tiny_config

from minialbert_tf.distillation import Distiller
from minialbert_tf.distillation.initialisation import initialise
from minialbert_tf.errors import InputError
from minialbert_tf.models import MiniAlbertForMaskedLM, MiniAlbertModel
from minialbert_tf.teacher import BertForMaskedLM, BertModel

LAYERS = 4


def make_batch(rows, length=16, seed=0):
    random = np.random.default_rng(seed)
    mask = (np.arange(length) < random.integers(5, length + 1, (rows, 1))).astype(np.int32)
    return {"input_ids": random.integers(5, 60, mask.shape).astype(np.int32) * mask, "attention_mask": mask}


SAMPLES = [make_batch(32), make_batch(16, length=12, seed=1)]
UNSEEN = make_batch(32, seed=2)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(1)


def make_teacher(cls=BertModel, **changes):
    """A BERT that is new but for its LayerNorms, which are of random weights as in a trained one."""
    teacher = cls(bert_config(**{"initializer_range": 0.1, **changes}))
    random = np.random.default_rng(2)
    for weight in teacher.weights:
        if "gamma" in weight.name or "beta" in weight.name:
            weight.assign(random.uniform(0.6, 1.4, weight.shape) - ("beta" in weight.name))
    return teacher


def make_student(cls=MiniAlbertModel, **changes):
    return cls(tiny_config(**{"embedding_size": 12, **changes}))


def losses_of(student, teacher, layer_map=None):
    distiller = Distiller(student, teacher, layer_map)
    labels = tf.fill(UNSEEN["input_ids"].shape, -100)
    return {name: float(loss) for name, loss in distiller.compute_losses(UNSEEN, labels).items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"use_adapter": False}, {"num_hidden_layers": 4}, {"embedding_size": 16}],
    ids=lambda changes: ", ".join(changes) or "default",
)
def test_a_student_starts_near_its_teacher(changes):
    teacher, student = make_teacher(), make_student(**changes)
    random = losses_of(student, teacher)
    initialise(student, teacher, SAMPLES)
    start = losses_of(student, teacher)
    assert start["embedding_loss"] < 0.1 * random["embedding_loss"]
    assert start["hidden_loss"] < 0.3 * random["hidden_loss"]


def test_weights_of_another_teacher_are_no_such_start():
    teacher, student = make_teacher(), make_student()
    random = losses_of(student, teacher)
    keras.utils.set_random_seed(5)
    initialise(student, make_teacher(), SAMPLES)
    start = losses_of(student, teacher)
    assert start["embedding_loss"] > 0.5 * random["embedding_loss"]
    assert start["hidden_loss"] > 0.5 * random["hidden_loss"]


def test_a_student_may_have_a_head_and_so_may_the_teacher():
    teacher, student = make_teacher(BertForMaskedLM), make_student(MiniAlbertForMaskedLM)
    initialise(student, teacher, SAMPLES)
    start = losses_of(student, teacher)
    bare = make_student()
    initialise(bare, teacher.encoder, SAMPLES)
    expected = losses_of(bare, teacher)
    for name in ("embedding_loss", "attention_loss", "hidden_loss"):
        assert start[name] == pytest.approx(expected[name], rel=1e-5)


def embedded(model):
    return np.asarray(model.embeddings(UNSEEN["input_ids"]))[UNSEEN["attention_mask"] == 1]


def test_embeddings_as_wide_as_the_teachers_are_the_teachers():
    teacher, student = make_teacher(), make_student(embedding_size=16)
    initialise(student, teacher, SAMPLES)
    np.testing.assert_array_equal(embedded(student), embedded(teacher))
    with pytest.raises(AssertionError):
        narrower = make_student(embedding_size=15)
        initialise(narrower, teacher, SAMPLES)
        np.testing.assert_allclose(embedded(narrower), embedded(teacher), atol=1e-3)


def test_wider_embeddings_lose_less_of_the_teachers():
    teacher = make_teacher()
    losses = []
    for size in (4, 8, 12, 15):
        student = make_student(embedding_size=size)
        initialise(student, teacher, SAMPLES)
        losses.append(losses_of(student, teacher)["embedding_loss"])
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.2 * losses[0]


def test_the_projector_is_the_best_that_there_is_for_its_tables():
    teacher, student = make_teacher(), make_student(embedding_size=8)
    [inputs] = samples = SAMPLES[:1]
    initialise(student, teacher, samples)
    tokens = inputs["attention_mask"] == 1
    target = np.asarray(teacher.embeddings(inputs["input_ids"]))[tokens]

    def error():
        return np.square(np.asarray(student.embeddings(inputs["input_ids"]))[tokens] - target).mean()

    assert_smallest(error, [student.embeddings.projector.kernel, student.embeddings.projector.bias])


def assert_smallest(error, weights):
    """Expects that any other value of the weights makes a larger error."""
    best, random = error(), np.random.default_rng(0)
    for weight in weights:
        value = np.asarray(weight).copy()
        for _ in range(5):
            weight.assign(value + 0.05 * random.normal(size=value.shape))
            assert error() > best
        weight.assign(value)


def adapter_inputs(student, inputs):
    """What each adapter gets and gives, attention adapters first."""
    recursive = student.recursive_encoder
    pairs = {}
    for name in ("attention_adapters", "feed_forward_adapters"):
        for adapter in getattr(recursive, name):

            def noting(hidden, adapter=adapter, call=adapter.call):
                adapted = call(hidden)
                pairs[adapter.name] = (np.asarray(hidden), np.asarray(adapted))
                return adapted

            adapter.call = noting
    student(inputs)
    return pairs


def largest_change(student):
    """The relative change of the tokens' states by the adapter that changes them most."""
    mask = UNSEEN["attention_mask"] == 1
    changes = [
        np.linalg.norm(after[mask] - before[mask]) / np.linalg.norm(before[mask])
        for before, after in adapter_inputs(student, UNSEEN).values()
    ]
    assert len(changes) == 2 * student.config.num_hidden_layers
    return max(changes)


def test_adapters_begin_as_the_identity():
    teacher, student = make_teacher(), make_student()
    initialise(student, teacher, SAMPLES)
    assert largest_change(student) < 0.2
    for adapter in student.recursive_encoder.attention_adapters:
        adapter.norm.gamma.assign(1.4 * np.asarray(adapter.norm.gamma))
    assert largest_change(student) > 0.3


def test_no_layer_norm_is_nearer_to_the_identity():
    teacher, student = make_teacher(), make_student()
    [inputs] = samples = SAMPLES[:1]
    initialise(student, teacher, samples)
    adapter = student.recursive_encoder.attention_adapters[0]
    states = teacher.embeddings(inputs["input_ids"])[inputs["attention_mask"] == 1][None]
    assert_smallest(lambda: np.square(adapter(states) - states).mean(), [adapter.norm.gamma, adapter.norm.beta])


def alike(teacher):
    """Gives all layers the first one's weights, and LayerNorms without weights, which adapters can be undone by."""
    for block in teacher.blocks:
        block.set_weights(teacher.blocks[0].get_weights())
    for weight in teacher.weights:
        if "gamma" in weight.name or "beta" in weight.name:
            weight.assign(np.full(weight.shape, float("gamma" in weight.name)))
    return teacher


@pytest.mark.parametrize("use_adapter", [True, False])
def test_a_teacher_of_equal_layers_is_copied_exactly(use_adapter):
    sizes = {"embedding_size": 16, "num_hidden_layers": LAYERS, "use_adapter": use_adapter}
    teacher, student = alike(make_teacher()), make_student(**sizes)
    initialise(student, teacher, SAMPLES)
    for name in ("hidden_states", "attentions"):
        for one, other in zip(student(UNSEEN)[name], teacher(UNSEEN)[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=5e-3)
    teacher, student = make_teacher(), make_student(**sizes)
    initialise(student, teacher, SAMPLES)
    assert np.abs(student(UNSEEN)["hidden_states"][-1] - teacher(UNSEEN)["hidden_states"][-1]).max() > 0.1


def test_the_block_is_the_chosen_layer_or_the_mean():
    teacher, student = make_teacher(), make_student()
    layers = [block.get_weights() for block in teacher.blocks]
    for layer in range(1, LAYERS + 1):
        initialise(student, teacher, SAMPLES[:1], start_layer=layer)
        for mine, *others in zip(student.recursive_encoder.block.get_weights(), *layers, strict=True):
            np.testing.assert_array_equal(mine, others[layer - 1])
            assert (
                not any(np.array_equal(mine, other) for other in others[: layer - 1] + others[layer:]) or not mine.any()
            )
    initialise(student, teacher, SAMPLES[:1])
    for mine, *others in zip(student.recursive_encoder.block.get_weights(), *layers, strict=True):
        np.testing.assert_allclose(mine, np.mean(others, axis=0), atol=1e-6)


def test_the_adapters_fit_the_layers_that_teach():
    teacher = make_teacher()
    spread, first = make_student(), make_student()
    initialise(spread, teacher, SAMPLES, layer_map=[2, 4])
    initialise(first, teacher, SAMPLES, layer_map=[1, 2])
    gammas = [np.asarray(each.recursive_encoder.attention_adapters[1].norm.gamma) for each in (spread, first)]
    assert np.abs(gammas[0] - gammas[1]).max() > 0.05
    default = make_student()
    initialise(default, teacher, SAMPLES)
    np.testing.assert_array_equal(np.asarray(default.recursive_encoder.attention_adapters[1].norm.gamma), gammas[0])


def test_what_a_student_knew_before_leaves_no_trace():
    teacher, new, used = make_teacher(), make_student(), make_student()
    random = np.random.default_rng(3)
    for weight in used.weights:
        weight.assign(random.normal(size=weight.shape))
    for student in (new, used):
        initialise(student, teacher, SAMPLES)
    for one, other in zip(new(UNSEEN)["hidden_states"], used(UNSEEN)["hidden_states"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 61),
        ("hidden_size", 32),
        ("intermediate_size", 24),
        ("max_position_embeddings", 16),
        ("type_vocab_size", 1),
    ],
)
def test_students_of_other_sizes_are_refused(name, value):
    student = make_student(**{name: value})
    with pytest.raises(InputError, match=rf"must have the teacher's {name}. Received: student {value}, teacher"):
        initialise(student, make_teacher(), SAMPLES)


@pytest.mark.parametrize("layer", [0, 5, -1])
def test_a_layer_that_the_teacher_lacks_is_refused(layer):
    with pytest.raises(InputError, match=rf"must be from 1 to 4, the teacher's. Received: {layer}"):
        initialise(make_student(), make_teacher(), SAMPLES, start_layer=layer)
    with pytest.raises(InputError, match="from 1 to 4 for each of 2 recursions"):
        initialise(make_student(), make_teacher(), SAMPLES, layer_map=[1, 5])

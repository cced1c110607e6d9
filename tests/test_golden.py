"""Parity with the original PyTorch implementation, under whichever Keras TF_USE_LEGACY_KERAS selects."""

import numpy as np
import pytest
import tensorflow as tf
from golden_values import GRADIENT_TOLERANCE, HEADS, TOLERANCE, inputs_of, load_expected, load_model

WITH_LOSS = sorted(set(HEADS) - {"encoder_only"})


def encoder_of(model):
    return model if model.head_rows is None else model.encoder


def differences(model, expected, mode="eager"):
    """Largest absolute difference of each output, at unmasked positions (queries, for attention maps)."""
    encoder = encoder_of(model)

    def run(inputs):
        return encoder(inputs), () if encoder is model else model(inputs)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla")
    states, logits = run(inputs_of(expected))
    mask = expected["attention_mask"].astype(bool)
    found = {
        f"hidden_{k}": np.abs(state - expected[f"hidden_{k}"])[mask].max()
        for k, state in enumerate(states["hidden_states"])
    }
    for k, attention in enumerate(states["attentions"]):
        difference = np.abs(attention - expected[f"attention_{k}"])  # (B, A, L, L)
        found[f"attention_{k}"] = difference.transpose(0, 2, 1, 3)[mask].max()
    found["last"] = np.abs(states["last_hidden_state"] - expected["last_hidden_state"])[mask].max()
    if encoder is not model:
        difference = np.abs(logits - expected["logits"])
        found["logits"] = (difference[mask] if difference.ndim == 3 else difference).max()
    return found


@pytest.mark.parametrize("mode", TOLERANCE)
@pytest.mark.parametrize("name", HEADS)
def test_outputs_are_the_originals(name, mode):
    model, expected = load_model(name), load_expected(name)
    found = differences(model, expected, mode)
    assert len(found) >= 2 * model.config.num_hidden_layers + 2
    assert max(found.values()) <= TOLERANCE[mode], found


def test_one_perturbed_weight_is_noticed():
    model, expected = load_model("token_adapters"), load_expected("token_adapters")
    kernel = encoder_of(model).recursive_encoder.feed_forward_adapters[-1].down.kernel
    changed = np.array(kernel)
    changed[0, 0] += 0.05
    kernel.assign(changed)
    assert max(differences(model, expected).values()) > 10 * TOLERANCE["eager"]


@pytest.mark.parametrize("name", WITH_LOSS)
def test_loss_and_gradients_are_the_originals(name):
    model, expected = load_model(name), load_expected(name)
    with tf.GradientTape() as tape:
        loss = model.default_loss()(expected["labels"], model(inputs_of(expected)))
    assert abs(float(loss) - float(expected["loss"])) <= TOLERANCE["eager"]

    rows = model.weight_rows()
    gradients = tape.gradient(loss, [row.variable(model) for row in rows])
    norms = {
        row.name: float(tf.norm(tf.convert_to_tensor(gradient))) for row, gradient in zip(rows, gradients, strict=True)
    }
    reference = dict(zip(expected["grad_names"], expected["grad_l2"], strict=True))
    # The original's names have the head's prefix before those of the encoder.
    prefix = model.naming.head_prefix
    reference = {name if name in norms else name.removeprefix(prefix): norm for name, norm in reference.items()}
    assert reference.keys() == norms.keys()
    for theirs, norm in reference.items():
        assert norms[theirs] == pytest.approx(norm, rel=GRADIENT_TOLERANCE, abs=1e-7), theirs

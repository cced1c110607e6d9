"""The golden pairs of a teacher and a student, and what the original computed with them."""

import numpy as np
import tensorflow as tf
from golden_values import GOLDEN, load_expected

from minialbert_tf.models import MiniAlbertForMaskedLM
from minialbert_tf.teacher import BertForMaskedLM

PAIRS = ("distillation", "distillation_no_adapters")


def load_pair(name, **changes):
    """Returns student and teacher; `changes` are of the student's config."""
    student = MiniAlbertForMaskedLM.from_pretrained(GOLDEN / name / "student", **changes)
    return student, BertForMaskedLM.from_pretrained(GOLDEN / name / "teacher")


def load_batch(name):
    """Returns the inputs and labels, and all that is expected."""
    expected = load_expected(name)
    inputs = {key: tf.constant(expected[key], tf.int32) for key in ("input_ids", "attention_mask", "token_type_ids")}
    return inputs, tf.constant(expected["labels"].astype(np.int32)), expected

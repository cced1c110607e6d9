import pytest
from tensorflow import keras

from minialbert_tf.distillation import LayerMap
from minialbert_tf.errors import InputError


def test_recursions_are_spread_over_the_teacher():
    assert LayerMap.of(None, 3, 6).layers == (2, 4, 6)
    assert LayerMap.of(None, 6, 6).layers == (1, 2, 3, 4, 5, 6)
    assert LayerMap.of([1, 1, 5], 3, 6).layers == (1, 1, 5)


@pytest.mark.parametrize(
    ("layers", "recursions", "message"),
    [
        (None, 4, "must divide the teacher's layers, unless a layer map is given. Received: recursions=4"),
        (None, 12, "must divide the teacher's layers"),
        ([0, 3, 6], 3, "teacher layer from 1 to 6 for each of 3 recursions. Received: 0, 3, 6"),
        ([2, 4, 7], 3, "from 1 to 6"),
        ([2, 4], 3, "Received: 2, 4"),
        ([2, 4, 5.5], 3, "Received: 2, 4, 5.5"),
        ([], 3, "for each of 3 recursions"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(layers, recursions, message):
    with pytest.raises(InputError, match=message):
        LayerMap.of(layers, recursions, 6)


def test_a_map_survives_serialisation():
    again = keras.utils.deserialize_keras_object(keras.utils.serialize_keras_object(LayerMap((2, 4))))
    assert again == LayerMap((2, 4))

import random

import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.windows import Window, plan_windows


def cases():
    generator = random.Random(0)
    every_small = [(length, capacity) for capacity in range(4, 14) for length in range(0, 60)]
    return every_small + [(generator.randrange(1, 5000), generator.randrange(4, 600)) for _ in range(300)]


def owners(windows):
    return [index for index, window in enumerate(windows) for _ in range(window.own_start, window.own_end)]


@pytest.mark.parametrize(("length", "capacity"), [(10, 8), (100, 8), (1000, 254), (7, 4)])
def test_known_plans(length, capacity):
    plans = {
        (10, 8): [Window(0, 8, 0, 7), Window(6, 10, 7, 10)],
        (7, 4): [Window(0, 4, 0, 3), Window(3, 7, 3, 7)],
    }
    plan = plan_windows(length, capacity)
    assert plan == plans.get((length, capacity), plan)
    assert len(plan) == {(10, 8): 2, (100, 8): 17, (1000, 254): 5, (7, 4): 2}[length, capacity]


def test_every_piece_has_one_owner_in_order():
    for length, capacity in cases():
        windows = plan_windows(length, capacity)
        assert [piece for window in windows for piece in range(window.own_start, window.own_end)] == list(range(length))
        for window in windows:
            assert 0 <= window.start <= window.own_start < window.own_end <= window.end <= length
            assert window.end - window.start <= capacity


def test_owner_has_the_closed_form_that_other_platforms_use():
    for length, capacity in cases():
        overlap = capacity // 4
        step = capacity - overlap
        windows = plan_windows(length, capacity)
        expected = [min(max((piece - overlap // 2) // step, 0), len(windows) - 1) for piece in range(length)]
        assert owners(windows) == expected


def test_every_piece_has_context_on_both_sides_where_the_text_has_it():
    for length, capacity in cases():
        context = capacity // 4 // 2
        windows = plan_windows(length, capacity)
        for piece, owner in enumerate(owners(windows)):
            window = windows[owner]
            assert piece - window.start >= min(context, piece)
            assert window.end - 1 - piece >= min(context, length - 1 - piece)


def test_no_window_is_in_vain():
    for length, capacity in cases():
        windows = plan_windows(length, capacity)
        assert not windows if length == 0 else windows[-1].end == length
        assert all(window.end < length for window in windows[:-1])


def test_a_text_that_fits_is_one_window():
    assert plan_windows(0, 4) == []
    assert plan_windows(254, 254) == [Window(0, 254, 0, 254)]
    assert len(plan_windows(255, 254)) == 2


def test_windows_too_small_to_overlap_are_refused():
    with pytest.raises(InputError, match=r"at least 4 pieces.*Received: 3"):
        plan_windows(10, 3)

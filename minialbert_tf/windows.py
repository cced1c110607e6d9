"""How a text longer than the model is cut into overlapping windows, and which window answers for which piece."""

from dataclasses import dataclass

from minialbert_tf.errors import InputError


@dataclass(frozen=True, slots=True)
class Window:
    """A run of pieces that the model sees at once, and the pieces in it that it answers for.

    Attributes:
        start: First piece in the window.
        end: Piece after the last in the window.
        own_start: First piece that the window answers for.
        own_end: Piece after the last that the window answers for.
    """

    start: int
    end: int
    own_start: int
    own_end: int


def plan_windows(length: int, capacity: int) -> list[Window]:
    """Cuts `length` pieces into windows of at most `capacity`, with every piece owned by exactly one window.

    With overlap = capacity // 4 and step = capacity - overlap there are n = ceil((length - overlap) / step) windows
    (one if length <= capacity, none if there are no pieces). Window i starts at i·step, and answers for the pieces
    from i·step + overlap // 2 up to the next window's such piece; the first from 0, the last to the end. So a piece
    has at least overlap // 2 pieces of context on either side wherever the text has them, and the owner of piece p
    is clip((p - overlap // 2) // step, 0, n - 1).

    Args:
        length: Number of pieces of the text.
        capacity: Number of pieces that fit beside [CLS] and [SEP], the model's length less 2.

    Raises:
        InputError: If `capacity` is below 4, where windows cannot overlap.
    """
    if capacity < 4:
        raise InputError(f"A window must hold at least 4 pieces beside [CLS] and [SEP]. Received: {capacity}")
    if length == 0:
        return []
    if length <= capacity:
        return [Window(0, length, 0, length)]
    overlap = capacity // 4
    step = capacity - overlap
    count = -(-(length - overlap) // step)
    return [
        Window(
            start=index * step,
            end=min(index * step + capacity, length),
            own_start=0 if index == 0 else index * step + overlap // 2,
            own_end=length if index == count - 1 else (index + 1) * step + overlap // 2,
        )
        for index in range(count)
    ]

// The twin of minialbert_tf/windows.py.
package minialbert.core

/**
 * A run of pieces that the model sees at once, and the pieces in it that it answers for.
 *
 * @property start first piece in the window
 * @property end piece after the last in the window
 * @property ownStart first piece that the window answers for
 * @property ownEnd piece after the last that the window answers for
 */
data class Window(val start: Int, val end: Int, val ownStart: Int, val ownEnd: Int)

/**
 * Cuts [length] pieces into overlapping windows of at most [capacity]; every piece is owned by exactly one.
 *
 * With overlap = capacity / 4 and step = capacity - overlap, window i starts at i * step and answers for the pieces
 * from i * step + overlap / 2 up to the next window's such piece; the first from 0, the last to the end.
 *
 * @param capacity pieces that fit beside [CLS] and [SEP]
 * @throws InputException if [capacity] is below 4, where windows cannot overlap
 */
fun planWindows(length: Int, capacity: Int): List<Window> {
    if (capacity < 4) {
        throw InputException("A window must hold at least 4 pieces beside [CLS] and [SEP]. Received: $capacity")
    }
    if (length == 0) return emptyList()
    if (length <= capacity) return listOf(Window(0, length, 0, length))
    val overlap = capacity / 4
    val step = capacity - overlap
    val count = (length - overlap + step - 1) / step
    return List(count) { index ->
        Window(
            start = index * step,
            end = minOf(index * step + capacity, length),
            ownStart = if (index == 0) 0 else index * step + overlap / 2,
            ownEnd = if (index == count - 1) length else (index + 1) * step + overlap / 2,
        )
    }
}

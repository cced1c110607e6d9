package minialbert.core

import org.junit.Assert.assertEquals
import org.junit.Test

class NerTest {
    @Test
    fun spans() {
        assertEquals(emptyList<Span>(), decode(""))
        assertEquals(emptyList<Span>(), decode("O O"))
        assertEquals(listOf(Span("X", 0, 2), Span("X", 2, 3)), decode("B-X I-X B-X"))
        assertEquals(listOf(Span("X", 0, 1), Span("Y", 1, 3)), decode("B-X I-Y I-Y O"))
        assertEquals(listOf(Span("X", 1, 2), Span("X", 3, 5)), decode("O I-X O I-X I-X"))
    }

    private fun decode(tags: String) = decodeSpans(tags.split(' ').filter { it != "" })
}

package minialbert.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class WindowsTest {
    @Test
    fun examples() {
        assertEquals(emptyList<Window>(), planWindows(0, 4))
        assertEquals(listOf(Window(0, 8, 0, 8)), planWindows(8, 8))
        assertEquals(listOf(Window(0, 8, 0, 7), Window(6, 9, 7, 9)), planWindows(9, 8))
        assertRefused("at least 4") { planWindows(10, 3) }
    }

    @Test
    fun everyPieceIsOwnedOnceWithContextOnBothSides() {
        for (capacity in 4..40) {
            val context = capacity / 4 / 2
            for (length in 1..200) {
                val windows = planWindows(length, capacity)
                assertEquals((0 until length).toList(), windows.flatMap { it.ownStart until it.ownEnd })
                for (window in windows) {
                    assertTrue(window.end - window.start <= capacity)
                    assertTrue(window.ownStart - window.start >= minOf(context, window.ownStart))
                    assertTrue(window.end - window.ownEnd >= minOf(context, length - window.ownEnd))
                }
            }
        }
    }
}

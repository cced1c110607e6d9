package minialbert.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class BucketRuntimeTest {
    /** Gives ids in the first column of two, the mask in the second. */
    private class Echo(private val columns: Int = 2) : BucketRuntime(listOf(4, 8), 2) {
        val runs = ArrayList<Int>()

        override fun run(length: Int, inputIds: IntArray, attentionMask: IntArray): FloatArray {
            runs.add(length)
            assertEquals(length, inputIds.size)
            assertEquals(length, attentionMask.size)
            val sources = listOf(inputIds, attentionMask)
            return FloatArray(length * columns) { sources[it % 2][it / 2].toFloat() }
        }

        override fun close() = Unit
    }

    @Test
    fun theShortestThatFitsRuns() {
        val runtime = Echo()
        assertEquals(8, runtime.maxLength)
        for (size in 1..8) {
            val logits = runtime.predict(IntArray(size) { 10 + it })
            assertArrayEquals(FloatArray(size * 2) { if (it % 2 == 0) 10f + it / 2 else 1f }, logits, 0f)
        }
        assertEquals(listOf(4, 4, 4, 4, 8, 8, 8, 8), runtime.runs)
    }

    @Test
    fun misfitsAreRefused() {
        assertRefused("must not exceed 8 pieces. Received: 9") { Echo().predict(IntArray(9)) }
        assertRefused("must give 8 logits. Received: 4") { Echo(columns = 1).predict(IntArray(3)) }
    }
}

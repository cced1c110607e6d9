package minialbert.core

import org.junit.Assert.assertEquals
import org.junit.Test

class JsonTest {
    @Test
    fun values() {
        val text = """ {"a": [1, -2, 2.5, 1e3, 0], "b": {}, "c": [], "d": [true, false, null],
            "e": "\"\\\/\n\u00e9\ud83d\ude00é"} """
        val expected = mapOf(
            "a" to listOf(1L, -2L, 2.5, 1000.0, 0L),
            "b" to emptyMap<String, Any?>(),
            "c" to emptyList<Any?>(),
            "d" to listOf(true, false, null),
            "e" to "\"\\/\n\u00e9\uD83D\uDE00\u00e9",
        )
        assertEquals(expected, parseJson(text))
        assertEquals(1.0, parseJson("1.0")) // a whole number it is not
        assertEquals("x", parseJson("\"x\""))
    }

    @Test
    fun whatIsNoJsonIsRefused() {
        val texts = listOf(
            "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1,\"a\":2}",
            "1 2", "01", "1.", ".5", "+1", "-", "1e", "NaN", "Infinity", "tru", "nulll", "'a'", "\"a",
            "\"\\x\"", "\"\\u12\"", "\"\t\"", "// x\n1", "[".repeat(100_000),
        )
        for (text in texts) assertRefused("JSON") { parseJson(text) }
    }
}

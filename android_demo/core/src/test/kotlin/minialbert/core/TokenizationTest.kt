package minialbert.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Test

private val VOCABULARY = listOf("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "-", "A")

class TokenizationTest {
    private val tokenizer = WordPieceTokenizer(VOCABULARY, false, false, true)

    @Test
    fun vectors() {
        assertTrue(Vectors.all.size >= 50 && Vectors.names.size >= 4)
        for (name in Vectors.names) {
            val tokenizer = Vectors.tokenizer(name)
            for (vector in Vectors.all) {
                val text = vector.getValue("text") as String
                val expected = vector.getValue(name).asObject()
                val pieces = tokenizer.encode(text)
                val label = "$name: $text"
                assertEquals(label, expected.getValue("ids").asInts(), pieces.ids.toList())
                assertEquals(label, expected.getValue("words").asInts(), pieces.wordIds.toList())
                val offsets = expected.getValue("offsets").asList().map { it.asInts() }
                assertEquals(label, offsets, (0 until pieces.size).map { pieces.codePoints(text, it) })
            }
        }
    }

    @Test
    fun vectorsTellTheSettingsApart() {
        val results = Vectors.names.map { name ->
            val tokenizer = Vectors.tokenizer(name)
            Vectors.all.map { tokenizer.encode(it["text"] as String).ids.toList() }
        }
        for ((index, result) in results.withIndex()) {
            for (other in results.drop(index + 1)) assertNotEquals(result, other)
        }
    }

    @Test
    fun offsetsCountUtf16Units() {
        val pieces = tokenizer.encode("\uD83D\uDE00 ab")
        assertArrayEquals(intArrayOf(1, 5, 7), pieces.ids)
        assertArrayEquals(intArrayOf(0, 3, 4), pieces.starts)
        assertArrayEquals(intArrayOf(2, 4, 5), pieces.ends)
    }

    @Test
    fun specialTokensInTheTextAreText() {
        for (name in Vectors.names) {
            val special = with(Vectors.tokenizer(name)) { listOf(padId, clsId, sepId, maskId) }
            val ids = Vectors.tokenizer(name).encode("[CLS] x[SEP]y [PAD] [MASK]").ids
            assertTrue(ids.none { it in special })
        }
    }

    @Test
    fun loneSurrogatesAreDropped() {
        val pieces = tokenizer.encode("a\uD800b \uDFFF a\uDC00")
        assertArrayEquals(intArrayOf(5, 7, 5), pieces.ids)
        assertArrayEquals(intArrayOf(0, 2, 6), pieces.starts)
        assertArrayEquals(intArrayOf(1, 3, 7), pieces.ends)
    }

    @Test
    fun oneLongWordTakesLinearTime() {
        val text = "a".repeat(1_000_000)
        assertArrayEquals(intArrayOf(1), tokenizer.encode(text).ids)
        assertEquals(1_000_000, tokenizer.encode(text).ends[0])
    }

    @Test
    fun vocabularies() {
        assertEquals(listOf("a", "", "b\u2028c"), readVocabulary("a\n\nb\u2028c\n"))
        assertEquals(listOf("a", "b"), readVocabulary("a\r\nb"))
        assertEquals(listOf("a", ""), readVocabulary("a\n\n"))
        assertRefused("Missing: [MASK]") { WordPieceTokenizer(VOCABULARY - "[MASK]", false, false, true) }
        assertRefused("Received twice: b") { WordPieceTokenizer(VOCABULARY + "b", false, false, true) }
        assertRefused("Received: id 10") { WordPieceTokenizer(VOCABULARY + "", false, false, true) }
        assertRefused("Received: id 10") { WordPieceTokenizer(VOCABULARY + "c\nd", false, false, true) }
    }

    private fun Pieces.codePoints(text: String, index: Int): List<Int> =
        listOf(text.codePointCount(0, starts[index]), text.codePointCount(0, ends[index]))
}

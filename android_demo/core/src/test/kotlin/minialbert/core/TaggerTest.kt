package minialbert.core

import kotlin.math.exp
import kotlin.math.ln
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

private val VOCABULARY = listOf("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "-", "\uD83D\uDE00")
private val LABELS = listOf("O", "B-X", "I-X")

class TaggerTest {
    private val tokenizer = WordPieceTokenizer(VOCABULARY, true, true, true)

    /** Gives the piece with id k the label k % 3, with logits 0, 1 and 2 upwards. */
    private class ByPiece(override val maxLength: Int, private val labels: Int = 3) : Runtime {
        val sequences = ArrayList<List<Int>>()

        override fun predict(sequence: IntArray): FloatArray {
            sequences.add(sequence.toList())
            return FloatArray(sequence.size * labels) {
                val label = it % labels
                if (label == sequence[it / labels] % labels) 2f else label / 2f
            }
        }

        override fun close() = Unit
    }

    @Test
    fun entitiesReachFromWordToWord() {
        // a is I-X by its first piece, b and ab's ##b have no say, - is I-X, the emoji O.
        val text = "\uD83D\uDE00 Ab-\u200Ba"
        val entities = EntityTagger(tokenizer, LABELS, ByPiece(16)).tag(text)
        assertEquals(listOf("Ab-\u200Ba"), entities.map { it.text })
        assertEquals(3 to 8, entities[0].start to entities[0].end)
        assertEquals(1 / (1 + exp(-2.0) + exp(-1.5)), entities[0].score, 1e-12)
    }

    @Test
    fun scoreIsTheMeanOverWords() {
        val rows = listOf(0.0, 0.0, 0.0, ln(0.2), ln(0.7), ln(0.1), ln(0.25), ln(0.25), ln(0.5), 0.0, 0.0, 0.0)
        val runtime = object : Runtime {
            override val maxLength = 16
            override fun predict(sequence: IntArray) = FloatArray(rows.size) { rows[it].toFloat() }
            override fun close() = Unit
        }
        assertEquals(0.6, EntityTagger(tokenizer, LABELS, runtime).tag("a b").single().score, 1e-6)
    }

    @Test
    fun tiesGoToTheFirstLabel() {
        val runtime = object : Runtime {
            override val maxLength = 16
            override fun predict(sequence: IntArray) = FloatArray(sequence.size * 3)
            override fun close() = Unit
        }
        assertEquals(emptyList<Entity>(), EntityTagger(tokenizer, LABELS, runtime).tag("a b"))
    }

    @Test
    fun windowsOfLongTextsAreMerged() {
        val text = "a b \uD83D\uDE00 - ".repeat(50)
        val whole = EntityTagger(tokenizer, LABELS, ByPiece(300)).tag(text)
        val runtime = ByPiece(10)
        val progress = ArrayList<Pair<Int, Int>>()
        val parts = EntityTagger(tokenizer, LABELS, runtime).tag(text) { done, total -> progress.add(done to total) }
        assertEquals(whole, parts)
        assertTrue(whole.size >= 50)
        assertEquals(List(33) { it to 33 }, progress)
        assertTrue(runtime.sequences.all { it.size <= 10 && it.first() == 2 && it.last() == 3 })
    }

    @Test
    fun workStopsWhereTheCallbackThrows() {
        val runtime = ByPiece(10)
        val tagger = EntityTagger(tokenizer, LABELS, runtime)
        assertThrows(InterruptedException::class.java) {
            tagger.tag("a ".repeat(100)) { done, _ -> if (done == 2) throw InterruptedException() }
        }
        assertEquals(2, runtime.sequences.size)
    }

    @Test
    fun textsWithoutWords() {
        val runtime = ByPiece(10)
        for (text in listOf("", "  ", "\u200B\u0000")) {
            assertEquals(emptyList<Entity>(), EntityTagger(tokenizer, LABELS, runtime).tag(text))
        }
        assertTrue(runtime.sequences.isEmpty())
    }

    @Test
    fun labelsMustBeIob2() {
        for (labels in listOf(listOf("B-X", "I-X"), listOf("O", "X"), listOf("O", "B-"), listOf("O", "B-X", "B-X"))) {
            assertRefused("IOB2") { EntityTagger(tokenizer, labels, ByPiece(10)) }
        }
    }

    @Test
    fun jsonCountsCodePoints() {
        val text = "\uD83D\uDE00 \"a\\\n"
        val json = entitiesToJson(text, listOf(Entity("\"a\\\n", "X", 3, 7, 0.5), Entity("\uD83D", "Y", 0, 1, 1e-7)))
        val (first, second) = parseJson(json).asList().map { it.asObject() }
        assertEquals(mapOf("text" to "\"a\\\n", "label" to "X", "start" to 2L, "end" to 6L, "score" to 0.5), first)
        assertEquals("\uD83D", second["text"])
        assertEquals(1e-7, second["score"])
        assertEquals("[]", entitiesToJson(text, emptyList()))
    }
}

// The twin of minialbert_tf/tagger.py.
package minialbert.core

import java.io.Closeable
import kotlin.math.exp

/**
 * A mention found in a text.
 *
 * @property text the mention
 * @property label its type, such as "Disease"
 * @property start its first UTF-16 unit in the text
 * @property end the UTF-16 unit after its last
 * @property score mean probability of its words' labels, between 0 and 1
 */
data class Entity(val text: String, val label: String, val start: Int, val end: Int, val score: Double)

/** What runs the network: LiteRT on the phone, its C library in the JVM tests. */
interface Runtime : Closeable {
    /** Longest sequence it takes, [CLS] and [SEP] included. */
    val maxLength: Int

    /** Returns the logits of a sequence of piece ids, [CLS] and [SEP] included: sequence by labels, row after row. */
    fun predict(sequence: IntArray): FloatArray
}

/**
 * Finds entities in texts of any length; the Python Tagger's documentation defines what it does.
 *
 * Only offsets differ: they count UTF-16 units, as Kotlin's strings do. [entitiesToJson] counts code points.
 *
 * @param labels IOB2 label names by id
 * @throws InputException if the labels are not "O" and, for types X, "B-X" and "I-X"
 */
class EntityTagger(
    private val tokenizer: WordPieceTokenizer,
    private val labels: List<String>,
    private val runtime: Runtime,
) : Closeable {
    init {
        val valid = labels.all { it == OUTSIDE || it.length > 2 && it.take(2) in setOf("B-", "I-") }
        if (!valid || OUTSIDE !in labels || labels.toSet().size < labels.size) {
            throw InputException("Labels must be IOB2: O, and B-X and I-X for types X, each once. Received: $labels")
        }
    }

    /**
     * Returns the entities of a text in order.
     *
     * @param onWindow called before each run of the network with the number of runs done and of all; it stops the work
     *   by throwing
     */
    fun tag(text: String, onWindow: (done: Int, total: Int) -> Unit = { _, _ -> }): List<Entity> {
        val pieces = tokenizer.encode(text)
        return entities(text, pieces, logits(pieces.ids, onWindow))
    }

    override fun close() = runtime.close()

    /** Returns the logits of a text's pieces, each from the window that owns it. */
    private fun logits(ids: IntArray, onWindow: (Int, Int) -> Unit): FloatArray {
        val result = FloatArray(ids.size * labels.size)
        val windows = planWindows(ids.size, runtime.maxLength - 2)
        for ((index, window) in windows.withIndex()) {
            onWindow(index, windows.size)
            val sequence = IntArray(window.end - window.start + 2)
            sequence[0] = tokenizer.clsId
            ids.copyInto(sequence, 1, window.start, window.end)
            sequence[sequence.size - 1] = tokenizer.sepId
            val first = window.ownStart - window.start + 1 // after [CLS]
            val last = first + window.ownEnd - window.ownStart
            val output = runtime.predict(sequence)
            output.copyInto(result, window.ownStart * labels.size, first * labels.size, last * labels.size)
        }
        return result
    }

    private fun entities(text: String, pieces: Pieces, logits: FloatArray): List<Entity> {
        val firsts = pieces.ids.indices.filter { it == 0 || pieces.wordIds[it] != pieces.wordIds[it - 1] }
        val lasts = firsts.drop(1).map { it - 1 } + (pieces.size - 1)
        val decisions = firsts.map { decide(logits, it * labels.size) }
        return decodeSpans(decisions.map { labels[it.labelId] }).map { span ->
            val start = pieces.starts[firsts[span.start]]
            val end = pieces.ends[lasts[span.end - 1]]
            val score = (span.start until span.end).sumOf { decisions[it].score } / (span.end - span.start)
            Entity(text.substring(start, end), span.label, start, end, score)
        }
    }

    /** Returns the label with the highest logit in the row at [offset], and its softmax probability. */
    private fun decide(logits: FloatArray, offset: Int): Decision {
        var best = 0
        for (label in 1 until labels.size) if (logits[offset + label] > logits[offset + best]) best = label
        val highest = logits[offset + best].toDouble()
        return Decision(best, 1.0 / labels.indices.sumOf { exp(logits[offset + it] - highest) })
    }

    private class Decision(val labelId: Int, val score: Double)

    private companion object {
        const val OUTSIDE = "O"
    }
}

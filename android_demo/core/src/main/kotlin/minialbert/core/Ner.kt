// The twin of minialbert_tf/ner.py.
package minialbert.core

/** An entity in a sequence of words: its type, its first word, and the word after its last. */
data class Span(val label: String, val start: Int, val end: Int)

/**
 * Finds the entities in a sequence of IOB tags, as conlleval and seqeval's default mode do.
 *
 * It is lenient: an I- tag that continues nothing, after O or after another type, opens an entity.
 *
 * @param tags each "O", "B-TYPE" or "I-TYPE"
 */
fun decodeSpans(tags: List<String>): List<Span> {
    val spans = ArrayList<Span>()
    var label = ""
    var start = 0
    for ((position, tag) in tags.withIndex()) {
        if (tag[0] == 'I' && tag.substring(2) == label) continue
        if (label != "") spans.add(Span(label, start, position))
        label = tag.drop(2)
        start = position
    }
    if (label != "") spans.add(Span(label, start, tags.size))
    return spans
}

package minialbert.core

import java.text.Normalizer

/**
 * Character classes as Hugging Face's tokenizers library has them.
 *
 * They are tables, not java.lang.Character's classes: those follow the Unicode version of the device, while the library
 * keeps to the categories of Unicode 8 and to today's lower case, and the model was trained with what it does.
 */
internal object Characters {
    private val dropped = CodePointRanges(DROPPED)
    private val punctuation = CodePointRanges(PUNCTUATION)
    private val nonspacingMarks = CodePointRanges(NONSPACING_MARKS)
    private val decomposed = CodePointRanges(DECOMPOSED)
    private val lowercase = LowercaseRuns(LOWERCASE)

    /** Whether BERT deletes the character: control and format characters, private use, U+FFFD, lone surrogates. */
    fun isDropped(codePoint: Int): Boolean =
        if (codePoint < ASCII_END) codePoint < 0x20 && !isWhitespace(codePoint) || codePoint == 0x7F
        else codePoint in 0xD800..0xDFFF || codePoint in dropped

    /** Whether the character separates words; to be asked after [isDropped], which holds for some separators. */
    fun isWhitespace(codePoint: Int): Boolean = when (codePoint) {
        0x20, 0x09, 0x0A, 0x0D, 0xA0, 0x1680, in 0x2000..0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 -> true
        else -> false
    }

    /** Whether the character is a word of its own. */
    fun isPunctuation(codePoint: Int): Boolean = codePoint in punctuation

    /** Whether the character is a CJK ideograph in BERT's sense; 2B920 is the library's, for BERT's 2B820. */
    fun isIdeograph(codePoint: Int): Boolean = when (codePoint) {
        in 0x4E00..0x9FFF, in 0x3400..0x4DBF, in 0xF900..0xFAFF, in 0x20000..0x2A6DF, in 0x2A700..0x2B73F,
        in 0x2B740..0x2B81F, in 0x2B920..0x2CEAF, in 0x2F800..0x2FA1F,
        -> true
        else -> false
    }

    fun isNonspacingMark(codePoint: Int): Boolean = codePoint in nonspacingMarks

    /** Returns the canonical decomposition, or null if the character is its own. */
    fun decompose(codePoint: Int): String? =
        if (codePoint in decomposed) Normalizer.normalize(String(Character.toChars(codePoint)), Normalizer.Form.NFD)
        else null

    /** Returns the lower case, a character of its own but for U+0130, which [BertNormalizer] knows. */
    fun lowercase(codePoint: Int): Int = when {
        codePoint >= ASCII_END -> lowercase.map(codePoint)
        codePoint in 'A'.code..'Z'.code -> codePoint + 0x20
        else -> codePoint
    }

    const val ASCII_END = 0x80
}

/** A set of code points, written as hexadecimal ranges in ascending order: "0-8 b-c ad". */
internal class CodePointRanges(ranges: String) {
    private val firsts: IntArray
    private val lasts: IntArray

    init {
        val pairs = ranges.split(' ').map { it.split('-') }
        firsts = IntArray(pairs.size) { pairs[it].first().toInt(16) }
        lasts = IntArray(pairs.size) { pairs[it].last().toInt(16) }
    }

    operator fun contains(codePoint: Int): Boolean {
        val range = lastNotAbove(firsts, codePoint)
        return range >= 0 && codePoint <= lasts[range]
    }
}

/** A mapping of code points, written as hexadecimal runs first:last:step:difference in ascending order. */
internal class LowercaseRuns(runs: String) {
    private val fields = runs.split(' ').map { run -> run.split(':').map { it.toInt(16) } }
    private val firsts = IntArray(fields.size) { fields[it][0] }

    fun map(codePoint: Int): Int {
        val run = lastNotAbove(firsts, codePoint)
        if (run < 0) return codePoint
        val (first, last, step, difference) = fields[run]
        return if (codePoint <= last && (codePoint - first) % step == 0) codePoint + difference else codePoint
    }
}

/** Returns the index of the last of the ascending [values] that is at most [value], or -1. */
private fun lastNotAbove(values: IntArray, value: Int): Int {
    val found = values.binarySearch(value)
    return if (found >= 0) found else -found - 2
}

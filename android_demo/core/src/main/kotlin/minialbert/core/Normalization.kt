package minialbert.core

/**
 * A text as WordPiece sees it: [length] UTF-16 units, each with the range of the original text that it came from.
 *
 * @property starts for each unit, the first UTF-16 unit of its character in the original text
 * @property ends for each unit, the UTF-16 unit after that character
 */
internal class NormalizedText(capacity: Int) {
    var length = 0
        private set
    var units = CharArray(capacity)
        private set
    var starts = IntArray(capacity)
        private set
    var ends = IntArray(capacity)
        private set

    fun append(codePoint: Int, start: Int, end: Int) {
        if (codePoint < Character.MIN_SUPPLEMENTARY_CODE_POINT) {
            append(codePoint.toChar(), start, end)
        } else {
            append(Character.highSurrogate(codePoint), start, end)
            append(Character.lowSurrogate(codePoint), start, end)
        }
    }

    fun append(unit: Char, start: Int, end: Int) {
        if (length == units.size) grow()
        units[length] = unit
        starts[length] = start
        ends[length] = end
        length++
    }

    private fun grow() {
        val capacity = maxOf(16, length * 2)
        units = units.copyOf(capacity)
        starts = starts.copyOf(capacity)
        ends = ends.copyOf(capacity)
    }
}

/**
 * BERT's cleaning of texts, as Hugging Face's BertNormalizer does it: characters are deleted, turned into spaces,
 * surrounded by spaces (ideographs), decomposed and freed from marks (accents), and lower-cased.
 *
 * Unlike there, marks are not sorted. That shows only beside marks that remain when accents are stripped: those newer
 * than Unicode 8, and the stems and flags of musical notes.
 */
internal class BertNormalizer(
    private val lowercase: Boolean,
    private val stripAccents: Boolean,
    private val tokenizeChineseChars: Boolean,
) {
    fun normalize(text: String): NormalizedText {
        val result = NormalizedText(text.length + 16)
        var start = 0
        while (start < text.length) {
            val codePoint = text.codePointAt(start)
            val end = start + Character.charCount(codePoint)
            when {
                Characters.isDropped(codePoint) -> {}
                Characters.isWhitespace(codePoint) -> result.append(' ', start, end)
                tokenizeChineseChars && Characters.isIdeograph(codePoint) -> {
                    result.append(' ', start, end)
                    fold(codePoint, start, end, result)
                    result.append(' ', start, end)
                }
                else -> fold(codePoint, start, end, result)
            }
            start = end
        }
        return result
    }

    private fun fold(codePoint: Int, start: Int, end: Int, result: NormalizedText) {
        if (!stripAccents || codePoint < Characters.ASCII_END) {
            lower(codePoint, start, end, result)
            return
        }
        val decomposition = Characters.decompose(codePoint)
        if (decomposition == null) {
            keepUnlessMark(codePoint, start, end, result)
            return
        }
        var index = 0
        while (index < decomposition.length) {
            val part = decomposition.codePointAt(index)
            keepUnlessMark(part, start, end, result)
            index += Character.charCount(part)
        }
    }

    private fun keepUnlessMark(codePoint: Int, start: Int, end: Int, result: NormalizedText) {
        if (!Characters.isNonspacingMark(codePoint)) lower(codePoint, start, end, result)
    }

    private fun lower(codePoint: Int, start: Int, end: Int, result: NormalizedText) {
        if (!lowercase) {
            result.append(codePoint, start, end)
        } else if (codePoint == CAPITAL_I_WITH_DOT) {
            result.append('i', start, end)
            result.append(COMBINING_DOT, start, end)
        } else {
            result.append(Characters.lowercase(codePoint), start, end)
        }
    }

    private companion object {
        const val CAPITAL_I_WITH_DOT = 0x130
        const val COMBINING_DOT = '\u0307'
    }
}

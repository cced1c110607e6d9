package minialbert.core

/**
 * Reads JSON strictly (RFC 8259): no duplicate keys, comments, trailing commas or NaN.
 *
 * Objects become maps, arrays lists, whole numbers Long, other numbers Double.
 *
 * @throws InputException if the text is not JSON, or is nested deeper than any card
 */
internal fun parseJson(text: String): Any? = JsonParser(text).parse()

private class JsonParser(private val text: String) {
    private var position = 0

    fun parse(): Any? {
        val value = value(depth = 0)
        skipSpace()
        if (position < text.length) throw unexpected()
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > MAX_DEPTH) throw InputException("JSON must not be nested deeper than $MAX_DEPTH levels.")
        skipSpace()
        return when (text.getOrNull(position)) {
            '{' -> jsonObject(depth)
            '[' -> array(depth)
            '"' -> string()
            't' -> literal("true", true)
            'f' -> literal("false", false)
            'n' -> literal("null", null)
            else -> number()
        }
    }

    private fun jsonObject(depth: Int): Map<String, Any?> {
        val result = LinkedHashMap<String, Any?>()
        items('}') {
            skipSpace()
            val key = string()
            skipSpace()
            expect(':')
            if (key in result) throw InputException("The keys of a JSON object must differ. Received twice: $key")
            result[key] = value(depth + 1)
        }
        return result
    }

    private fun array(depth: Int): List<Any?> {
        val result = ArrayList<Any?>()
        items(']') { result.add(value(depth + 1)) }
        return result
    }

    /** Reads items separated by commas between the bracket at [position] and [close]. */
    private fun items(close: Char, item: () -> Unit) {
        position++
        skipSpace()
        if (text.getOrNull(position) == close) {
            position++
            return
        }
        while (true) {
            item()
            skipSpace()
            if (text.getOrNull(position) == close) break
            expect(',')
        }
        position++
    }

    private fun string(): String {
        expect('"')
        val result = StringBuilder()
        while (true) {
            val unit = text.getOrNull(position) ?: throw unexpected()
            if (unit < ' ') throw unexpected()
            position++
            when (unit) {
                '"' -> return result.toString()
                '\\' -> result.append(escape())
                else -> result.append(unit)
            }
        }
    }

    private fun escape(): Char {
        val unit = text.getOrNull(position) ?: throw unexpected()
        position++
        return when (unit) {
            '"', '\\', '/' -> unit
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = HEX.matchAt(text, position)?.value ?: throw unexpected()
                position += digits.length
                digits.toInt(16).toChar()
            }
            else -> throw unexpected()
        }
    }

    private fun literal(word: String, value: Any?): Any? {
        if (!text.startsWith(word, position)) throw unexpected()
        position += word.length
        return value
    }

    private fun number(): Number {
        val digits = NUMBER.matchAt(text, position)?.value ?: throw unexpected()
        position += digits.length
        return digits.toLongOrNull() ?: digits.toDouble()
    }

    private fun expect(unit: Char) {
        if (text.getOrNull(position) != unit) throw unexpected()
        position++
    }

    private fun skipSpace() {
        while (position < text.length && text[position] in " \t\n\r") position++
    }

    private fun unexpected(): InputException {
        val found = text.getOrNull(position)?.let { "U+%04X".format(it.code) } ?: "the end"
        return InputException("The text must be JSON. Received: $found at unit $position")
    }

    private companion object {
        const val MAX_DEPTH = 32
        val HEX = Regex("[0-9a-fA-F]{4}")
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}

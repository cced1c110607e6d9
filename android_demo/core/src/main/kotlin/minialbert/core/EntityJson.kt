package minialbert.core

/** Returns what `minialbert tag --json` gives for a text: offsets are code points there, not UTF-16 units. */
fun entitiesToJson(text: String, entities: List<Entity>): String = entities.joinToString(",", "[", "]") { entity ->
    val start = text.codePointCount(0, entity.start)
    val end = start + text.codePointCount(entity.start, entity.end)
    val fields = listOf(
        "\"text\":" + quote(entity.text),
        "\"label\":" + quote(entity.label),
        "\"start\":$start",
        "\"end\":$end",
        "\"score\":${entity.score}",
    )
    fields.joinToString(",", "{", "}")
}

private fun quote(text: String): String = buildString {
    append('"')
    for (unit in text) {
        when {
            unit == '"' || unit == '\\' -> append('\\').append(unit)
            unit < ' ' || unit.isSurrogate() || unit == '\u2028' || unit == '\u2029' ->
                append("\\u").append(unit.code.toString(16).padStart(4, '0'))
            else -> append(unit)
        }
    }
    append('"')
}

package minialbert.app

import android.content.Context
import android.graphics.Typeface
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.BackgroundColorSpan
import android.text.style.RelativeSizeSpan
import android.text.style.StyleSpan
import java.text.NumberFormat
import minialbert.core.Entity

/** Shows entities: each type has a colour, and its name beside each entity, for those who cannot tell the colours. */
internal class EntityStyle(private val context: Context, labels: List<String>) {
    private val types = labels.filter { it.length > 2 }.map { it.substring(2) }.distinct()
    private val colors = typesToColors()

    /** Returns the text with its entities coloured, bold and named. */
    fun highlight(text: String, entities: List<Entity>): CharSequence {
        val result = SpannableStringBuilder()
        var end = 0
        for (entity in entities) {
            result.append(text, end, entity.start)
            appendMarked(result, entity.text, entity.label)
            end = entity.end
        }
        return result.append(text, end, text.length)
    }

    /** Returns each type that occurs with its number of entities. */
    fun legend(entities: List<Entity>): CharSequence {
        val result = SpannableStringBuilder()
        for (type in types) {
            val count = entities.count { it.label == type }
            if (count == 0) continue
            if (result.isNotEmpty()) result.append("   ")
            val start = result.length
            result.append(context.getString(R.string.legend_item, type, count))
            colour(result, start, type)
        }
        return result
    }

    /** Returns one line for each of the first entities, and one for the rest. */
    fun list(entities: List<Entity>): List<String> {
        val percent = NumberFormat.getPercentInstance()
        val lines = entities.take(MAX_LINES).map {
            context.getString(R.string.entity, it.text, it.label, percent.format(it.score))
        }
        val left = entities.size - lines.size
        val rest = if (left > 0) listOf(context.getString(R.string.entities_left_out, left)) else emptyList()
        return lines + rest
    }

    private fun appendMarked(result: SpannableStringBuilder, mention: String, type: String) {
        val start = result.length
        result.append(mention)
        result.setSpan(StyleSpan(Typeface.BOLD), start, result.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        val name = result.length
        result.append(NO_BREAK_SPACE).append(type)
        result.setSpan(RelativeSizeSpan(0.7f), name, result.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        colour(result, start, type)
    }

    private fun colour(result: SpannableStringBuilder, start: Int, type: String) {
        val span = BackgroundColorSpan(colors.getValue(type))
        result.setSpan(span, start, result.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
    }

    private fun typesToColors(): Map<String, Int> {
        val values = context.resources.obtainTypedArray(R.array.entity_colors)
        try {
            return types.withIndex().associate { (index, type) -> type to values.getColor(index % values.length(), 0) }
        } finally {
            values.recycle()
        }
    }

    private companion object {
        const val MAX_LINES = 200
        const val NO_BREAK_SPACE = "\u00A0"
    }
}

package minialbert.checks

import java.io.File
import java.io.RandomAccessFile
import java.util.Locale
import kotlin.system.measureNanoTime
import minialbert.core.Bundle
import minialbert.core.EntityTagger
import minialbert.core.FileRegion
import minialbert.core.Pieces
import minialbert.core.Runtime
import minialbert.core.WordPieceTokenizer
import minialbert.core.entitiesToJson
import minialbert.core.parseJson
import minialbert.core.readBundle

/**
 * Runs core on the JVM for checks that compare it with Python. Inputs are JSON, outputs one JSON value a line.
 *
 *     tag LIBRARY MODEL TEXTS OUTPUT      entities of each text; prints timings
 *     tokenize TOKENIZERS TEXTS OUTPUT    for each tokenizer and text [ids, starts, ends, words], in code points
 *     speed MODEL TEXTFILE                prints the tokenizer's throughput
 */
fun main(arguments: Array<String>) {
    val files = arguments.drop(1)
    when (arguments.first()) {
        "tag" -> tag(library = files[0], model = files[1], texts = readTexts(files[2]), output = File(files[3]))
        "tokenize" -> tokenize(parseJson(File(files[0]).readText()), readTexts(files[1]), File(files[2]))
        "speed" -> speed(readModel(files[0]).tokenizer, File(files[1]))
    }
}

/** Measures how much of the time is the network's. */
private class TimedRuntime(private val runtime: Runtime) : Runtime by runtime {
    var nanoseconds = 0L

    override fun predict(sequence: IntArray): FloatArray {
        var result: FloatArray
        nanoseconds += measureNanoTime { result = runtime.predict(sequence) }
        return result
    }
}

private fun tag(library: String, model: String, texts: List<String>, output: File) {
    val bundle = readModel(model)
    val runtime = TimedRuntime(NativeRuntime(library, model, bundle.card))
    EntityTagger(bundle.tokenizer, bundle.card.labels, runtime).use { tagger ->
        output.writeText(texts.joinToString("") { entitiesToJson(it, tagger.tag(it)) + "\n" })
        // Once more: the first pass is half the compiler's work.
        runtime.nanoseconds = 0
        val total = measureNanoTime { texts.forEach { tagger.tag(it) } }
        val network = runtime.nanoseconds
        println("{\"network_ms\":${network / 1e6},\"rest_ms\":${(total - network) / 1e6}}")
    }
}

private fun tokenize(tokenizers: Any?, texts: List<String>, output: File) {
    output.bufferedWriter().use { writer ->
        for (settings in tokenizers as List<*>) {
            val tokenizer = tokenizerOf(settings as Map<*, *>)
            for (text in texts) writer.append(piecesToJson(text, tokenizer.encode(text))).append('\n')
        }
    }
}

private fun speed(tokenizer: WordPieceTokenizer, file: File) {
    val texts = file.readLines()
    fun pass() = measureNanoTime { texts.forEach { tokenizer.encode(it) } }
    repeat(2) { pass() }
    val seconds = (1..3).minOf { pass() } / 1e9
    println("%.2f".format(Locale.ROOT, file.length() / 1e6 / seconds))
}

private fun readModel(path: String): Bundle =
    RandomAccessFile(path, "r").use { readBundle(FileRegion(it.channel, 0, it.length())) }

private fun readTexts(path: String): List<String> = (parseJson(File(path).readText()) as List<*>).map { it as String }

private fun tokenizerOf(settings: Map<*, *>) = WordPieceTokenizer(
    (settings["vocabulary"] as List<*>).map { it as String },
    settings["lowercase"] as Boolean,
    settings["strip_accents"] as Boolean,
    settings["tokenize_chinese_chars"] as Boolean,
)

private fun piecesToJson(text: String, pieces: Pieces): String {
    val codePoints = IntArray(text.length + 1)
    for (unit in text.indices) {
        val isSecond = text[unit].isLowSurrogate() && unit > 0 && text[unit - 1].isHighSurrogate()
        codePoints[unit + 1] = codePoints[unit] + if (isSecond) 0 else 1
    }
    val starts = pieces.starts.map { codePoints[it] }
    val ends = pieces.ends.map { codePoints[it] }
    return listOf(pieces.ids.toList(), starts, ends, pieces.wordIds.toList()).toString()
}

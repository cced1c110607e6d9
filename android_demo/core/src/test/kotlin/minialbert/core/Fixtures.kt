package minialbert.core

import java.io.File
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue

/** The test vectors that the Python tokenizer is tested with, too. */
internal object Vectors {
    private val content: Map<String, Any?> by lazy {
        parseJson(File(System.getProperty("minialbert.fixtures"), "tokenizer_vectors.json").readText()).asObject()
    }

    val names: Set<String> get() = content.getValue("tokenizers").asObject().keys
    val all: List<Map<String, Any?>> get() = content.getValue("vectors").asList().map { it.asObject() }

    fun tokenizer(name: String): WordPieceTokenizer {
        val settings = content.getValue("tokenizers").asObject().getValue(name).asObject()
        val vocabulary = content.getValue("vocabularies").asObject().getValue(settings.getValue("vocabulary") as String)
        return WordPieceTokenizer(
            vocabulary.asList().map { it as String },
            settings.getValue("lowercase") as Boolean,
            settings.getValue("strip_accents") as Boolean,
            settings.getValue("tokenize_chinese_chars") as Boolean,
        )
    }
}

internal fun Any?.asObject(): Map<String, Any?> = (this as Map<*, *>).mapKeys { it.key as String }

internal fun Any?.asList(): List<Any?> = this as List<*>

internal fun Any?.asInts(): List<Int> = asList().map { (it as Long).toInt() }

internal fun assertRefused(expected: String, block: () -> Unit) {
    val message = assertThrows(InputException::class.java, block).message.orEmpty()
    assertTrue("\"$message\" must contain \"$expected\"", expected in message)
    assertTrue("\"$message\" must be one line", '\n' !in message)
}

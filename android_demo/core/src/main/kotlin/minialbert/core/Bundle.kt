// The twin of export/bundle.py, which writes what is read here.
package minialbert.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.security.MessageDigest

/**
 * What card.json states beside the tokenizer's settings.
 *
 * @property task "token-classification" or "text-classification"
 * @property labels label names by id
 * @property sequenceLengths the L of the signatures `length_L`, ascending; [CLS] and [SEP] included
 * @property quantization how the weights are stored, such as "float32" or "int8"
 * @property modelBytes size of the flatbuffer
 * @property modelSha256 SHA-256 of the flatbuffer, in hexadecimal
 */
data class Card(
    val task: String,
    val labels: List<String>,
    val sequenceLengths: List<Int>,
    val quantization: String,
    val modelBytes: Long,
    val modelSha256: String,
)

/** A checked model file: what it is, and the tokenizer that the model was trained with. */
class Bundle(val card: Card, val tokenizer: WordPieceTokenizer)

/**
 * Reads and checks a file that `minialbert export tflite` wrote.
 *
 * The checks find damage and contradictions. They cannot tell a model that was made to do harm: LiteRT trusts its
 * flatbuffers, so ship only models from sources that you trust.
 *
 * @throws InputException if it is no such file, is damaged, or is of another format version
 */
fun readBundle(region: FileRegion): Bundle {
    val archive = readArchive(region, MAX_BYTES)
    val texts = archive.files.mapValues { (name, bytes) -> decodeUtf8(bytes, name) }
    val json = parseObject(texts.getValue(CARD_FILE), CARD_FILE)
    val card = parseCard(json)
    checkFlatbuffer(region, card, archive.start)
    if (texts.getValue(LABELS_FILE).split('\n').dropLast(1) != card.labels) {
        throw InputException("$LABELS_FILE must list the labels of $CARD_FILE.")
    }
    val tokenizer = parseTokenizer(json, readVocabulary(texts.getValue(VOCABULARY_FILE)))
    val vocabSize = parseObject(texts.getValue(CONFIG_FILE), CONFIG_FILE)["vocab_size"]
    if (vocabSize !is Long || vocabSize < tokenizer.vocabulary.size) {
        throw InputException("vocab_size of $CONFIG_FILE must cover the vocabulary. Received: $vocabSize")
    }
    return Bundle(card, tokenizer)
}

private const val FORMAT = "minialbert-tflite"
private const val VERSION = 1L
private val TASKS = listOf("token-classification", "text-classification")

private const val CARD_FILE = "card.json"
private const val VOCABULARY_FILE = "vocab.txt"
private const val LABELS_FILE = "labels.txt"
private const val CONFIG_FILE = "config.json"
private val MAX_BYTES =
    mapOf(CARD_FILE to (1 shl 20), VOCABULARY_FILE to (16 shl 20), LABELS_FILE to (1 shl 20), CONFIG_FILE to (1 shl 20))
private const val CHUNK_BYTES = 1 shl 18

private val CARD_KEYS =
    setOf("format", "version", "task", "labels", "tokenizer", "sequence_lengths", "quantization", "model")
private val TOKENIZER_FLAGS = listOf("lowercase", "strip_accents", "tokenize_chinese_chars")
private val TOKENIZER_NUMBERS = listOf("vocabulary_size", "pad_id", "unk_id", "cls_id", "sep_id", "mask_id")

private fun parseCard(json: Map<String, Any?>): Card {
    if (json["format"] != FORMAT || json["version"] != VERSION) {
        throw InputException(
            "$CARD_FILE must be of format $FORMAT version $VERSION. " +
                "Received: ${json["format"]} version ${json["version"]}",
        )
    }
    checkKeys(json, CARD_KEYS)
    val model = json.part("model")
    checkKeys(model, setOf("bytes", "sha256"))
    val card = Card(
        task = json.typed("task"),
        labels = json.typed<List<Any?>>("labels").map { it as? String ?: throw badLabels() },
        sequenceLengths = json.typed<List<Any?>>("sequence_lengths").map(::parseLength),
        quantization = json.typed("quantization"),
        modelBytes = model.typed("bytes"),
        modelSha256 = model.typed("sha256"),
    )
    if (card.task !in TASKS) throw InputException("task must be one of $TASKS. Received: ${card.task}")
    val labels = card.labels
    if (labels.isEmpty() || labels.toSet().size < labels.size || !labels.all(::isLine)) throw badLabels()
    val lengths = card.sequenceLengths
    if (lengths.isEmpty() || lengths.zipWithNext().any { (one, next) -> one >= next }) {
        throw InputException("sequence_lengths must ascend. Received: $lengths")
    }
    return card
}

private fun parseTokenizer(card: Map<String, Any?>, vocabulary: List<String>): WordPieceTokenizer {
    val settings = card.part("tokenizer")
    checkKeys(settings, (TOKENIZER_FLAGS + TOKENIZER_NUMBERS).toSet())
    val (lowercase, stripAccents, tokenizeChineseChars) = TOKENIZER_FLAGS.map { settings.typed<Boolean>(it) }
    val tokenizer = WordPieceTokenizer(vocabulary, lowercase, stripAccents, tokenizeChineseChars)
    val ids = with(tokenizer) { listOf(vocabulary.size, padId, unkId, clsId, sepId, maskId) }
    if (TOKENIZER_NUMBERS.map { settings.typed<Long>(it) } != ids.map { it.toLong() }) {
        throw InputException("$VOCABULARY_FILE must fit the tokenizer of $CARD_FILE.")
    }
    return tokenizer
}

private fun checkFlatbuffer(region: FileRegion, card: Card, modelEnd: Long) {
    if (card.modelBytes == modelEnd) {
        val digest = MessageDigest.getInstance("SHA-256")
        for (position in 0 until modelEnd step CHUNK_BYTES.toLong()) {
            digest.update(region.read(position, minOf(CHUNK_BYTES.toLong(), modelEnd - position).toInt()))
        }
        if (digest.digest().joinToString("") { "%02x".format(it) } == card.modelSha256) return
    }
    throw InputException("The model must match the size and SHA-256 in its card; the file is damaged.")
}

private fun checkKeys(json: Map<String, Any?>, keys: Set<String>) {
    if (json.keys != keys) {
        throw InputException(
            "$CARD_FILE must have exactly its keys. Missing: ${keys - json.keys}; unknown: ${json.keys - keys}",
        )
    }
}

private inline fun <reified T> Map<String, Any?>.typed(key: String): T =
    this[key] as? T ?: throw InputException("$key of $CARD_FILE must be a ${T::class.java.simpleName}.")

private fun Map<String, Any?>.part(key: String): Map<String, Any?> =
    typed<Map<*, *>>(key).mapKeys { it.key as String }

private fun parseLength(value: Any?): Int =
    (value as? Long)?.takeIf { it in 1..Int.MAX_VALUE }?.toInt()
        ?: throw InputException("sequence_lengths must be positive whole numbers. Received: $value")

private fun isLine(label: String): Boolean = label != "" && label.trim() == label && label.none { it in "\n\r" }

private fun badLabels() = InputException("labels must be different non-empty lines of text.")

private fun parseObject(text: String, name: String): Map<String, Any?> {
    val value = try {
        parseJson(text)
    } catch (error: InputException) {
        throw InputException("$name must be valid JSON: ${error.message}", error)
    }
    if (value !is Map<*, *>) throw InputException("$name must hold a JSON object.")
    return value.mapKeys { it.key as String }
}

private fun decodeUtf8(bytes: ByteArray, name: String): String =
    try {
        Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString()
    } catch (error: CharacterCodingException) {
        throw InputException("$name must be UTF-8.", error)
    }

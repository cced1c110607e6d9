// The twin of minialbert_tf/tokenization.py, where Hugging Face's library does what Normalization.kt does here.
package minialbert.core

/**
 * The WordPieces of one text, without [CLS] and [SEP].
 *
 * @property ids piece ids
 * @property starts first UTF-16 unit of each piece in the original text
 * @property ends UTF-16 unit after each piece in the original text
 * @property wordIds index of the pre-token (BERT's whitespace and punctuation splitting) that each piece is part of
 */
class Pieces(val ids: IntArray, val starts: IntArray, val ends: IntArray, val wordIds: IntArray) {
    val size: Int get() = ids.size
}

/**
 * BERT's tokenizer: clean, lower-case and strip accents if asked, split at whitespace and punctuation, WordPiece.
 *
 * The text is data throughout: a literal "[SEP]" in it is ordinary text and never becomes the special token.
 *
 * @property vocabulary the pieces by id; continuations start with "##"
 * @param lowercase whether the vocabulary is uncased
 * @param stripAccents whether accents are removed
 * @param tokenizeChineseChars whether each CJK ideograph is a word of its own
 * @throws InputException if a special token is missing, or a piece stands twice or cannot stand on a line
 */
class WordPieceTokenizer(
    val vocabulary: List<String>,
    lowercase: Boolean,
    stripAccents: Boolean,
    tokenizeChineseChars: Boolean,
) {
    private val normalizer = BertNormalizer(lowercase, stripAccents, tokenizeChineseChars)
    private val firstPieces = HashMap<String, Int>(vocabulary.size * 2)
    private val laterPieces = HashMap<String, Int>(vocabulary.size)
    private val longestPiece: Int

    init {
        for ((id, piece) in vocabulary.withIndex()) {
            if (piece.isEmpty() || piece.any { it == '\n' || it == '\r' }) {
                throw InputException("Each piece of a vocabulary must be one line of text. Received: id $id")
            }
            if (firstPieces.put(piece, id) != null) {
                throw InputException("The pieces of a vocabulary must differ. Received twice: $piece")
            }
            if (piece.startsWith(CONTINUATION)) laterPieces[piece.substring(CONTINUATION.length)] = id
        }
        longestPiece = vocabulary.maxOfOrNull { it.length } ?: 0
    }

    val padId = idOf("[PAD]")
    val unkId = idOf("[UNK]")
    val clsId = idOf("[CLS]")
    val sepId = idOf("[SEP]")
    val maskId = idOf("[MASK]")

    /** Splits a text into pieces. */
    fun encode(text: String): Pieces {
        val normalized = normalizer.normalize(text)
        val encoder = Encoder(normalized)
        var start = 0
        while (start < normalized.length) {
            val end = wordEnd(normalized, start)
            if (normalized.units[start] != ' ') encoder.addWord(start, end)
            start = end
        }
        return encoder.pieces()
    }

    /** Returns the end of the word or space that begins at unit [start]; punctuation characters are words. */
    private fun wordEnd(text: NormalizedText, start: Int): Int {
        var end = start
        while (end < text.length) {
            val codePoint = Character.codePointAt(text.units, end, text.length)
            val alone = codePoint == ' '.code || Characters.isPunctuation(codePoint)
            if (alone && end > start) break
            end += Character.charCount(codePoint)
            if (alone) break
        }
        return end
    }

    private fun idOf(token: String): Int =
        firstPieces[token] ?: throw InputException("A vocabulary must contain the special tokens. Missing: $token")

    private inner class Encoder(private val text: NormalizedText) {
        private val ids = IntList()
        private val starts = IntList()
        private val ends = IntList()
        private val wordIds = IntList()
        private var words = 0

        fun addWord(start: Int, end: Int) {
            val word = String(text.units, start, end - start)
            val before = ids.size
            if (word.codePointCount(0, word.length) > MAX_WORD_LENGTH || !addPieces(word, start)) {
                for (list in arrayOf(ids, starts, ends, wordIds)) list.truncate(before)
                add(unkId, start, end)
            }
            words++
        }

        fun pieces() = Pieces(ids.toArray(), starts.toArray(), ends.toArray(), wordIds.toArray())

        /** Adds the longest pieces from the left; returns false where none fits. */
        private fun addPieces(word: String, offset: Int): Boolean {
            var start = 0
            while (start < word.length) {
                val pieces = if (start == 0) firstPieces else laterPieces
                var end = minOf(word.length, start + longestPiece)
                var id: Int? = null
                while (end > start) {
                    id = pieces[word.substring(start, end)]
                    if (id != null) break
                    end--
                }
                add(id ?: return false, offset + start, offset + end)
                start = end
            }
            return true
        }

        private fun add(id: Int, start: Int, end: Int) {
            ids.add(id)
            starts.add(text.starts[start])
            ends.add(text.ends[end - 1])
            wordIds.add(words)
        }
    }

    private companion object {
        const val CONTINUATION = "##"
        const val MAX_WORD_LENGTH = 100 // code points; a longer word becomes one [UNK]
    }
}

/** Splits the content of a vocab.txt; only line feeds end a line, since other separators occur as pieces. */
fun readVocabulary(text: String): List<String> {
    val lines = text.replace("\r\n", "\n").split('\n')
    return if (lines.last().isEmpty()) lines.dropLast(1) else lines
}

/** A list of ints that grows, without a box around each. */
private class IntList {
    var size = 0
        private set
    private var values = IntArray(64)

    fun add(value: Int) {
        if (size == values.size) values = values.copyOf(size * 2)
        values[size++] = value
    }

    fun truncate(newSize: Int) {
        size = newSize
    }

    fun toArray(): IntArray = values.copyOf(size)
}

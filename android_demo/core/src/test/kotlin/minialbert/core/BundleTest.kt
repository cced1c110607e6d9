package minialbert.core

import java.io.File
import java.io.FileOutputStream
import java.io.RandomAccessFile
import java.security.MessageDigest
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

private val MODEL = "xxxxTFL3 a model".toByteArray()
private const val VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n\u2028b\n"
private const val CARD = """{
  "format": "minialbert-tflite", "version": 1, "task": "token-classification", "labels": ["O", "B-X", "I-X"],
  "tokenizer": {"lowercase": false, "strip_accents": true, "tokenize_chinese_chars": true, "vocabulary_size": 7,
                "pad_id": 0, "unk_id": 1, "cls_id": 2, "sep_id": 3, "mask_id": 4},
  "sequence_lengths": [8, 16], "quantization": "int8", "model": {"bytes": 16, "sha256": "HASH"}
}"""

class BundleTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val hash = MessageDigest.getInstance("SHA-256").digest(MODEL).joinToString("") { "%02x".format(it) }
    private val files = mapOf(
        "card.json" to CARD.replace("HASH", hash),
        "vocab.txt" to VOCABULARY,
        "labels.txt" to "O\nB-X\nI-X\n",
        "config.json" to "{\"vocab_size\": 7}",
    )

    @Test
    fun whatTheExporterWrites() {
        val bundle = read(bytesOf(files))
        val card = Card("token-classification", listOf("O", "B-X", "I-X"), listOf(8, 16), "int8", 16, hash)
        assertEquals(card, bundle.card)
        assertEquals(listOf("a", "\u2028b"), bundle.tokenizer.vocabulary.drop(5))
        assertEquals(2, bundle.tokenizer.clsId)
        assertArrayEquals(intArrayOf(5), bundle.tokenizer.encode("\u00E0").ids) // strips accents, cased
        assertArrayEquals(intArrayOf(1), bundle.tokenizer.encode("A").ids)
    }

    @Test
    fun aRegionInsideAnotherFile() {
        val content = bytesOf(files)
        val file = folder.newFile().apply { writeBytes(ByteArray(1000) + content + ByteArray(500)) }
        RandomAccessFile(file, "r").use {
            assertEquals("int8", readBundle(FileRegion(it.channel, 1000, content.size.toLong())).card.quantization)
            assertRefused("shorter") { readBundle(FileRegion(it.channel, 2000, content.size.toLong())) }
        }
    }

    @Test
    fun everyTruncationIsRefused() {
        val content = bytesOf(files)
        for (size in content.indices) assertRefused("") { read(content.copyOf(size)) }
        assertRefused("") { read(content + 0) }
    }

    /** Dates, attributes and version numbers in the archive have no say; all else counts. */
    @Test
    fun noChangedByteGivesAnotherModel() {
        val content = bytesOf(files)
        val expected = read(content)
        var harmless = 0
        for (index in content.indices) {
            val changed = content.clone().also { it[index] = (it[index].toInt() xor 0xFF).toByte() }
            val bundle = try {
                read(changed)
            } catch (_: InputException) {
                continue
            }
            assertTrue(index >= MODEL.size)
            assertEquals(expected.card, bundle.card)
            assertEquals(expected.tokenizer.vocabulary, bundle.tokenizer.vocabulary)
            harmless++
        }
        assertTrue("$harmless of ${content.size} changes went unnoticed", harmless < content.size / 3)
    }

    @Test
    fun cardsAreStrict() {
        for ((from, to) in listOf(
            "\"version\": 1" to "\"version\": 2",
            "\"version\": 1" to "\"version\": 1.0",
            "minialbert-tflite" to "other",
            "token-classification" to "generation",
            "\"quantization\": \"int8\"," to "",
            "\"quantization\": \"int8\"" to "\"quantization\": 8",
            "\"version\": 1" to "\"version\": 1, \"more\": 1",
            "\"version\": 1" to "\"version\": 1, \"version\": 1",
            "\"lowercase\": false" to "\"lowercase\": 0",
            "\"lowercase\": false" to "\"lowercased\": false",
            "\"cls_id\": 2" to "\"cls_id\": 3",
            "\"vocabulary_size\": 7" to "\"vocabulary_size\": 8",
            "[8, 16]" to "[16, 8]",
            "[8, 16]" to "[8, 8]",
            "[8, 16]" to "[0, 8]",
            "[8, 16]" to "[]",
            "[8, 16]" to "[8, 99999999999]",
            "[\"O\", \"B-X\", \"I-X\"]" to "[\"O\", \"B-X\", \"I-Y\"]",
            "[\"O\", \"B-X\", \"I-X\"]" to "[\"O\", \"O\", \"I-X\"]",
            "[\"O\", \"B-X\", \"I-X\"]" to "[\"O\", 1, \"I-X\"]",
            "[\"O\", \"B-X\", \"I-X\"]" to "[]",
            "\"bytes\": 16" to "\"bytes\": 15",
            hash to hash.reversed(),
        )) {
            val card = files.getValue("card.json")
            assertTrue(from in card)
            assertRefused("") { read(bytesOf(files + ("card.json" to card.replace(from, to)))) }
        }
        assertRefused("object") { read(bytesOf(files + ("card.json" to "[]"))) }
        assertRefused("valid JSON") { read(bytesOf(files + ("card.json" to "{"))) }
    }

    @Test
    fun filesMustAgree() {
        assertRefused("vocab.txt once") { read(bytesOf(files - "vocab.txt")) }
        assertRefused("labels.txt must list") { read(bytesOf(files + ("labels.txt" to "O\nB-X\n"))) }
        assertRefused("vocab.txt must fit") { read(bytesOf(files + ("vocab.txt" to VOCABULARY + "c\n"))) }
        assertRefused("Missing: [PAD]") { read(bytesOf(files + ("vocab.txt" to "a\n"))) }
        assertRefused("vocab_size") { read(bytesOf(files + ("config.json" to "{\"vocab_size\": 6}"))) }
        assertRefused("vocab_size") { read(bytesOf(files + ("config.json" to "{}"))) }
        assertRefused("SHA-256") { read(bytesOf(files, model = "xxxxTFL3 a modem".toByteArray())) }
    }

    @Test
    fun archivesThatUnpackToTooMuchAreRefused() {
        val bomb = bytesOf(files + ("labels.txt" to "O\n".repeat(5_000_000)))
        assertTrue(bomb.size < 100_000)
        assertRefused("labels.txt is encrypted or larger") { read(bomb) }
        // The same with a size that lies.
        val lie = bomb.clone()
        val entry = entriesOf(bomb, directoryOf(bomb)).single { nameOf(bomb, it) == "labels.txt" }
        put(lie, entry + 24, 11)
        assertRefused("labels.txt does not match its checksum") { read(lie) }
    }

    @Test
    fun storedFilesAreRead() {
        assertEquals("int8", read(bytesOf(files, method = ZipEntry.STORED)).card.quantization)
    }

    @Test
    fun whatIsNoModelIsRefused() {
        assertRefused("too short") { read(ByteArray(0)) }
        assertRefused("does not end in a zip archive") { read(ByteArray(1000)) }
    }

    private fun read(content: ByteArray): Bundle {
        val file = File(folder.root, "model.tflite")
        file.writeBytes(content)
        return RandomAccessFile(file, "r").use { readBundle(FileRegion(it.channel, 0, content.size.toLong())) }
    }

    private fun bytesOf(
        files: Map<String, String>,
        model: ByteArray = MODEL,
        method: Int = ZipEntry.DEFLATED,
    ): ByteArray {
        val file = File(folder.root, "archive.zip")
        ZipOutputStream(FileOutputStream(file)).use { zip ->
            for ((name, text) in files) {
                val bytes = text.toByteArray()
                val entry = ZipEntry(name)
                entry.method = method
                if (method == ZipEntry.STORED) {
                    entry.size = bytes.size.toLong()
                    entry.crc = CRC32().apply { update(bytes) }.value
                }
                zip.putNextEntry(entry)
                zip.write(bytes)
                zip.closeEntry()
            }
        }
        return moved(model, file.readBytes())
    }

    /** Puts an archive behind a model as Python's zipfile does: its offsets count from the start of the file. */
    private fun moved(model: ByteArray, archive: ByteArray): ByteArray {
        val content = model + archive
        val start = directoryOf(content) + model.size
        put(content, content.size - 22 + 16, start)
        for (at in entriesOf(content, start)) put(content, at + 42, uint(content, at + 42) + model.size)
        return content
    }

    private fun directoryOf(content: ByteArray) = uint(content, content.size - 22 + 16)

    private fun entriesOf(content: ByteArray, directory: Int): List<Int> =
        generateSequence(directory) { at -> at + 46 + intArrayOf(28, 30, 32).sumOf { ushort(content, at + it) } }
            .takeWhile { it < content.size - 22 }
            .toList()

    private fun nameOf(content: ByteArray, entry: Int) = String(content, entry + 46, ushort(content, entry + 28))

    private fun ushort(content: ByteArray, at: Int) =
        (content[at].toInt() and 0xFF) or (content[at + 1].toInt() and 0xFF shl 8)

    private fun uint(content: ByteArray, at: Int) = ushort(content, at) or (ushort(content, at + 2) shl 16)

    private fun put(content: ByteArray, at: Int, value: Int) {
        for (byte in 0..3) content[at + byte] = (value shr 8 * byte).toByte()
    }
}

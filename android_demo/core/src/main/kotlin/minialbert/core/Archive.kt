package minialbert.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

/** The contents of the wanted files of an archive, and where the archive begins, which is where the model ends. */
internal class Archive(val files: Map<String, ByteArray>, val start: Long)

/**
 * Reads files from a zip archive that ends a larger file.
 *
 * The archive is hostile input: sizes are bounded before anything is unpacked, and whatever the exporter never writes
 * (comments, encryption, zip64, several disks, other methods than stored and deflated) is refused. It is not read with
 * java.util.zip.ZipFile, which opens no asset inside an APK.
 *
 * @param limits the wanted files with the largest size of each
 * @throws InputException if there is no such archive, or it is damaged
 */
internal fun readArchive(region: FileRegion, limits: Map<String, Int>): Archive {
    val directory = readDirectory(region)
    val files = limits.mapValues { (name, limit) ->
        val entry = directory.entries.singleOrNull { it.name == name }
            ?: throw InputException("The archive must hold $name once.")
        unpack(region, entry, limit, directory.start)
    }
    return Archive(files, directory.entries.minOf { it.offset })
}

private const val END_SIZE = 22
private const val END_SIGNATURE = 0x06054b50
private const val ENTRY_SIZE = 46
private const val ENTRY_SIGNATURE = 0x02014b50
private const val HEADER_SIZE = 30
private const val HEADER_SIGNATURE = 0x04034b50
private const val ENCRYPTED = 0x1
private const val STORED = 0
private const val DEFLATED = 8
private const val MAX_DIRECTORY_BYTES = 64 shl 10

private class Directory(val entries: List<Entry>, val start: Long)

private class Entry(
    val directoryBytes: Int,
    val name: String,
    val flags: Int,
    val method: Int,
    val crc: Long,
    val packedSize: Long,
    val size: Long,
    val offset: Long,
)

private fun readDirectory(region: FileRegion): Directory {
    if (region.size < END_SIZE) throw damaged("it is too short")
    val end = littleEndian(region.read(region.size - END_SIZE, END_SIZE))
    if (end.getInt(0) != END_SIGNATURE) throw damaged("it does not end in a zip archive")
    val count = end.ushort(10)
    val size = end.uint(12)
    val start = end.uint(16)
    val oneDisk = end.getInt(4) == 0 && end.ushort(8) == count
    if (!oneDisk || size > MAX_DIRECTORY_BYTES || start + size != region.size - END_SIZE) {
        throw damaged("its archive's directory is out of place")
    }
    val bytes = littleEndian(region.read(start, size.toInt()))
    val entries = ArrayList<Entry>()
    var at = 0
    while (at < bytes.capacity()) {
        val entry = readEntry(bytes, at)
        entries.add(entry)
        at += entry.directoryBytes
    }
    if (entries.size != count || count == 0) throw damaged("its archive's directory has another size")
    return Directory(entries, start)
}

/** Reads the entry that begins at byte [at] of the directory. */
private fun readEntry(directory: ByteBuffer, at: Int): Entry {
    val left = directory.capacity() - at
    if (left < ENTRY_SIZE || directory.getInt(at) != ENTRY_SIGNATURE) {
        throw damaged("its archive's directory is cut short")
    }
    val nameSize = directory.ushort(at + 28)
    val directoryBytes = ENTRY_SIZE + nameSize + directory.ushort(at + 30) + directory.ushort(at + 32)
    if (directoryBytes > left) throw damaged("its archive's directory is cut short")
    return Entry(
        directoryBytes,
        name = String(directory.array(), at + ENTRY_SIZE, nameSize, Charsets.UTF_8),
        flags = directory.ushort(at + 8),
        method = directory.ushort(at + 10),
        crc = directory.uint(at + 16),
        packedSize = directory.uint(at + 20),
        size = directory.uint(at + 24),
        offset = directory.uint(at + 42),
    )
}

private fun unpack(region: FileRegion, entry: Entry, limit: Int, directoryStart: Long): ByteArray {
    if (entry.flags and ENCRYPTED != 0 || entry.size > limit) {
        throw damaged("${entry.name} is encrypted or larger than $limit bytes")
    }
    val header = littleEndian(region.read(entry.offset, HEADER_SIZE))
    if (header.getInt(0) != HEADER_SIGNATURE) throw damaged("${entry.name} is out of place")
    val nameSize = header.ushort(26)
    val name = String(region.read(entry.offset + HEADER_SIZE, nameSize), Charsets.UTF_8)
    if (name != entry.name) throw damaged("${entry.name} is out of place")
    val dataStart = entry.offset + HEADER_SIZE + nameSize + header.ushort(28)
    if (dataStart + entry.packedSize > directoryStart) throw damaged("${entry.name} is cut short")
    val packed = region.read(dataStart, entry.packedSize.toInt())
    val content = when (entry.method) {
        STORED -> packed
        DEFLATED -> inflate(packed, entry.size.toInt())
        else -> throw damaged("${entry.name} is packed in an unknown way")
    }
    if (content.size.toLong() != entry.size || CRC32().apply { update(content) }.value != entry.crc) {
        throw damaged("${entry.name} does not match its checksum")
    }
    return content
}

/** Unpacks at most one byte more than [size], by which the caller notices that there is more. */
private fun inflate(packed: ByteArray, size: Int): ByteArray {
    val inflater = Inflater(true)
    try {
        inflater.setInput(packed)
        val content = ByteArray(size + 1)
        var length = 0
        while (length < content.size) {
            val count = inflater.inflate(content, length, content.size - length)
            if (count == 0) break
            length += count
        }
        return content.copyOf(length)
    } catch (error: DataFormatException) {
        throw InputException("The model file must not be damaged. Received: data that do not unpack", error)
    } finally {
        inflater.end()
    }
}

private fun littleEndian(bytes: ByteArray): ByteBuffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)

private fun ByteBuffer.ushort(index: Int): Int = getShort(index).toInt() and 0xFFFF

private fun ByteBuffer.uint(index: Int): Long = getInt(index).toLong() and 0xFFFFFFFFL

private fun damaged(reason: String) =
    InputException("The model must be a .tflite file that minialbert exported, and undamaged. Received: $reason")

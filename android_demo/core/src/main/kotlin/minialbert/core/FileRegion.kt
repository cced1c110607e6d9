package minialbert.core

import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** A part of an open file: a whole file on a computer, an uncompressed asset inside the APK on a phone. */
class FileRegion(private val channel: FileChannel, private val start: Long, val size: Long) {
    /**
     * Returns the bytes from [position] on.
     *
     * @throws InputException if the region or the file ends before
     */
    fun read(position: Long, length: Int): ByteArray {
        if (position < 0 || length < 0 || position > size - length) {
            throw InputException("The file must hold bytes $position to ${position + length}. Received: $size bytes")
        }
        val buffer = ByteBuffer.allocate(length)
        while (buffer.hasRemaining()) {
            if (channel.read(buffer, start + position + buffer.position()) < 0) {
                throw InputException("The file must hold $size bytes from $start on; it is shorter.")
            }
        }
        return buffer.array()
    }
}

// The twin of minialbert_tf/litert_runtime.py, less the calls into LiteRT.
package minialbert.core

/**
 * A [Runtime] over signatures of fixed sequence lengths, `length_L` for each L: a sequence runs padded in the shortest
 * that holds it.
 *
 * @param lengths the L, ascending
 */
abstract class BucketRuntime(private val lengths: List<Int>, private val numLabels: Int) : Runtime {
    final override val maxLength: Int get() = lengths.last()

    /**
     * Runs the signature for [length], which is [inputIds] and [attentionMask]'s size.
     *
     * @return logits, [length] by labels, row after row
     */
    protected abstract fun run(length: Int, inputIds: IntArray, attentionMask: IntArray): FloatArray

    /** @throws InputException if the sequence is longer than [maxLength], or the model's logits have another shape */
    final override fun predict(sequence: IntArray): FloatArray {
        val length = lengths.firstOrNull { sequence.size <= it }
            ?: throw InputException("A sequence must not exceed $maxLength pieces. Received: ${sequence.size}")
        val attentionMask = IntArray(length) { if (it < sequence.size) 1 else 0 }
        val logits = run(length, sequence.copyOf(length), attentionMask)
        if (logits.size != length * numLabels) {
            throw InputException("The model must give ${length * numLabels} logits. Received: ${logits.size}")
        }
        return logits.copyOf(sequence.size * numLabels)
    }
}

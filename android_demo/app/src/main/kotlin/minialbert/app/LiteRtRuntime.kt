// The twin of minialbert_tf/litert_runtime.py.
package minialbert.app

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import java.io.File
import minialbert.core.BucketRuntime
import minialbert.core.Card

/** Runs the model with LiteRT on the CPU. Not for several threads at once. */
internal class LiteRtRuntime(context: Context, asset: String, card: Card) :
    BucketRuntime(card.sequenceLengths, card.labels.size) {

    private val model = compile(context, asset)
    private val signatures = HashMap<Int, Signature>()

    override fun run(length: Int, inputIds: IntArray, attentionMask: IntArray): FloatArray =
        signatures.getOrPut(length) { Signature("length_$length") }.run(inputIds, attentionMask)

    override fun close() {
        signatures.values.forEach { it.close() }
        model.close()
    }

    /** A signature with its buffers, which every run reuses. */
    private inner class Signature(private val name: String) {
        private val inputIds = model.createInputBuffer(INPUT_IDS, name)
        private val attentionMask = model.createInputBuffer(ATTENTION_MASK, name)
        private val logits = model.createOutputBuffer(LOGITS, name)
        private val inputs = mapOf(INPUT_IDS to inputIds, ATTENTION_MASK to attentionMask)
        private val outputs = mapOf(LOGITS to logits)

        fun run(ids: IntArray, mask: IntArray): FloatArray {
            inputIds.writeInt(ids)
            attentionMask.writeInt(mask)
            model.run(inputs, outputs, name)
            return logits.readFloat()
        }

        fun close() = listOf(inputIds, attentionMask, logits).forEach(TensorBuffer::close)
    }

    private companion object {
        const val INPUT_IDS = "input_ids"
        const val ATTENTION_MASK = "attention_mask"
        const val LOGITS = "logits"
        const val THREADS = 2 // phones have at least two fast cores

        /**
         * Compiles the model with a cache file for its packed weights. With it XNNPACK packs each weight once, not once
         * for every use and signature, and maps the file instead of holding the weights in memory of its own.
         *
         * The file is deleted before and after: XNNPACK checks neither that a cache is whole nor that it is of this
         * model, so one from an interrupted start or an older model could crash the app or change its answers. What is
         * mapped stays until the model is closed.
         */
        fun compile(context: Context, asset: String): CompiledModel {
            val cache = File(context.cacheDir, "xnnpack_weights")
            val options = CompiledModel.Options(Accelerator.CPU)
            options.cpuOptions = CompiledModel.CpuOptions(numThreads = THREADS, xnnPackWeightCachePath = cache.path)
            cache.delete()
            try {
                return CompiledModel.create(context.assets, asset, options)
            } finally {
                cache.delete()
            }
        }
    }
}

package minialbert.checks

import com.sun.jna.Library
import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import minialbert.core.BucketRuntime
import minialbert.core.Card

private typealias Out = PointerByReference

/** The part of LiteRT's C API that tagging needs, as of 2.3.0; every status other than 0 is an error. */
@Suppress("FunctionName")
private interface LiteRt : Library {
    fun LiteRtCreateEnvironment(optionCount: Int, options: Pointer?, environment: Out): Int
    fun LiteRtCreateModelFromFile(environment: Pointer, path: String, model: Out): Int
    fun LiteRtCreateOptions(options: Out): Int
    fun LiteRtSetOptionsHardwareAccelerators(options: Pointer, accelerators: Int): Int
    fun LiteRtCreateCompiledModel(environment: Pointer, model: Pointer, options: Pointer, compiled: Out): Int
    fun LiteRtGetNumModelSignatures(model: Pointer, count: LongArray): Int
    fun LiteRtGetModelSignature(model: Pointer, index: Long, signature: Out): Int
    fun LiteRtGetSignatureKey(signature: Pointer, key: Out): Int
    fun LiteRtGetNumSignatureInputs(signature: Pointer, count: LongArray): Int
    fun LiteRtGetSignatureInputName(signature: Pointer, index: Long, name: Out): Int
    fun LiteRtGetSignatureInputTensorByIndex(signature: Pointer, index: Long, tensor: Out): Int
    fun LiteRtGetSignatureOutputTensorByIndex(signature: Pointer, index: Long, tensor: Out): Int
    fun LiteRtGetRankedTensorType(tensor: Pointer, type: Memory): Int
    fun LiteRtGetCompiledModelInputBufferRequirements(model: Pointer, signature: Long, index: Long, result: Out): Int
    fun LiteRtGetCompiledModelOutputBufferRequirements(model: Pointer, signature: Long, index: Long, result: Out): Int
    fun LiteRtCreateManagedTensorBufferFromRequirements(
        environment: Pointer,
        type: Memory,
        requirements: Pointer,
        buffer: Out,
    ): Int
    fun LiteRtLockTensorBuffer(buffer: Pointer, address: PointerByReference, mode: Int): Int
    fun LiteRtUnlockTensorBuffer(buffer: Pointer): Int
    fun LiteRtRunCompiledModel(
        compiled: Pointer,
        signature: Long,
        inputCount: Long,
        inputs: Array<Pointer>,
        outputCount: Long,
        outputs: Array<Pointer>,
    ): Int
    fun LiteRtDestroyTensorBuffer(buffer: Pointer)
    fun LiteRtDestroyCompiledModel(compiled: Pointer)
    fun LiteRtDestroyOptions(options: Pointer)
    fun LiteRtDestroyModel(model: Pointer)
    fun LiteRtDestroyEnvironment(environment: Pointer)
}

/** Stands in for the app's LiteRtRuntime: the same LiteRT through its C library, on the CPU. */
class NativeRuntime(library: String, modelFile: String, private val card: Card) :
    BucketRuntime(card.sequenceLengths, card.labels.size) {

    private val liteRt = Native.load(library, LiteRt::class.java)
    private val environment = create { liteRt.LiteRtCreateEnvironment(0, null, it) }
    private val model = create { liteRt.LiteRtCreateModelFromFile(environment, modelFile, it) }
    private val options = create { liteRt.LiteRtCreateOptions(it) }
    private val compiled: Pointer
    private val signatures: Map<Int, Signature>

    init {
        check(liteRt.LiteRtSetOptionsHardwareAccelerators(options, CPU))
        compiled = create { liteRt.LiteRtCreateCompiledModel(environment, model, options, it) }
        val count = LongArray(1)
        check(liteRt.LiteRtGetNumModelSignatures(model, count))
        val byName = (0 until count[0]).map(::Signature).associateBy { it.name }
        signatures = card.sequenceLengths.associateWith { byName.getValue("length_$it") }
    }

    override fun run(length: Int, inputIds: IntArray, attentionMask: IntArray): FloatArray {
        val signature = signatures.getValue(length)
        signature.write("input_ids", inputIds)
        signature.write("attention_mask", attentionMask)
        return signature.run(length * card.labels.size)
    }

    override fun close() {
        signatures.values.forEach { it.close() }
        liteRt.LiteRtDestroyCompiledModel(compiled)
        liteRt.LiteRtDestroyOptions(options)
        liteRt.LiteRtDestroyModel(model)
        liteRt.LiteRtDestroyEnvironment(environment)
    }

    private fun create(call: (Out) -> Int): Pointer {
        val result = Out()
        check(call(result))
        return result.value
    }

    private fun check(status: Int) = check(status == 0) { "LiteRT must not fail. Received: status $status" }

    /** A signature with its buffers, which every run reuses. */
    private inner class Signature(private val index: Long) {
        private val handle = create { liteRt.LiteRtGetModelSignature(model, index, it) }
        private val inputNames: List<String>
        private val inputs: List<Pointer>
        private val output = buffer(
            { liteRt.LiteRtGetSignatureOutputTensorByIndex(handle, 0, it) },
            { liteRt.LiteRtGetCompiledModelOutputBufferRequirements(compiled, index, 0, it) },
        )
        val name: String = create { liteRt.LiteRtGetSignatureKey(handle, it) }.getString(0)

        init {
            val count = LongArray(1)
            check(liteRt.LiteRtGetNumSignatureInputs(handle, count))
            inputNames = (0 until count[0]).map { input ->
                create { liteRt.LiteRtGetSignatureInputName(handle, input, it) }.getString(0)
            }
            inputs = (0 until count[0]).map { input ->
                buffer(
                    { liteRt.LiteRtGetSignatureInputTensorByIndex(handle, input, it) },
                    { liteRt.LiteRtGetCompiledModelInputBufferRequirements(compiled, index, input, it) },
                )
            }
        }

        fun write(name: String, values: IntArray) =
            locked(inputs[inputNames.indexOf(name)], WRITE) { it.write(0, values, 0, values.size) }

        fun run(size: Int): FloatArray {
            val count = inputs.size.toLong()
            check(liteRt.LiteRtRunCompiledModel(compiled, index, count, inputs.toTypedArray(), 1, arrayOf(output)))
            return locked(output, READ) { it.getFloatArray(0, size) }
        }

        fun close() = (inputs + output).forEach(liteRt::LiteRtDestroyTensorBuffer)

        private fun buffer(tensor: (Out) -> Int, requirements: (Out) -> Int): Pointer {
            val type = Memory(TENSOR_TYPE_BYTES)
            check(liteRt.LiteRtGetRankedTensorType(create(tensor), type))
            val needed = create(requirements)
            return create { liteRt.LiteRtCreateManagedTensorBufferFromRequirements(environment, type, needed, it) }
        }

        private fun <T> locked(buffer: Pointer, mode: Int, use: (Pointer) -> T): T {
            val address = create { liteRt.LiteRtLockTensorBuffer(buffer, it, mode) }
            return use(address).also { check(liteRt.LiteRtUnlockTensorBuffer(buffer)) }
        }
    }

    private companion object {
        const val CPU = 1
        const val READ = 0
        const val WRITE = 1
        const val TENSOR_TYPE_BYTES = 256L // more than LiteRtRankedTensorType, whose content is passed on unread
    }
}

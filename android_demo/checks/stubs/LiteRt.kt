// Declarations, without bodies, of what the app uses of com.google.ai.edge.litert:litert 2.3.0, which only Google's
// Maven repository has. The app's sources are compiled against them; nothing runs them.
@file:Suppress("UNUSED_PARAMETER", "unused")

package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException(code: Int, message: String) : Exception("$code: $message")

abstract class JniHandle internal constructor() : AutoCloseable {
    final override fun close(): Unit = TODO()
}

class Environment private constructor() : JniHandle()

class TensorBuffer private constructor() : JniHandle() {
    fun writeInt(data: IntArray): Unit = TODO()

    fun readFloat(): FloatArray = TODO()
}

class CompiledModel private constructor() : JniHandle() {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var cpuOptions: CpuOptions? = null
    }

    fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer = TODO()

    fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer = TODO()

    fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String = "",
    ): Unit = TODO()

    companion object {
        @JvmStatic
        @JvmOverloads
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options(Accelerator.CPU),
            optionalEnv: Environment? = null,
        ): CompiledModel = TODO()
    }
}

package minialbert.app

import android.content.Context
import android.os.SystemClock
import java.io.Closeable
import java.io.FileInputStream
import minialbert.core.Bundle
import minialbert.core.Card
import minialbert.core.EntityTagger
import minialbert.core.FileRegion
import minialbert.core.InputException
import minialbert.core.readBundle

/**
 * The model among the app's assets, checked and loaded.
 *
 * @property bytes size of the model file
 */
internal class OnDeviceModel private constructor(
    bundle: Bundle,
    val tagger: EntityTagger,
    val bytes: Long,
    val loadMilliseconds: Long,
) : Closeable by tagger {
    val card: Card = bundle.card
    val vocabularySize: Int = bundle.tokenizer.vocabulary.size

    companion object {
        private const val ASSET = "model.tflite"

        /** @throws java.io.FileNotFoundException if there is no model, or it is compressed in the APK */
        fun load(context: Context): OnDeviceModel {
            val start = SystemClock.elapsedRealtime()
            context.assets.openFd(ASSET).use { asset ->
                val channel = FileInputStream(asset.fileDescriptor).channel // the asset closes what both share
                val bundle = readBundle(FileRegion(channel, asset.startOffset, asset.length))
                if (bundle.card.task != "token-classification") {
                    throw InputException("It must be for token-classification. Received: ${bundle.card.task}")
                }
                val runtime = LiteRtRuntime(context, ASSET, bundle.card)
                val tagger = try {
                    EntityTagger(bundle.tokenizer, bundle.card.labels, runtime)
                } catch (error: InputException) {
                    runtime.close()
                    throw error
                }
                return OnDeviceModel(bundle, tagger, asset.length, SystemClock.elapsedRealtime() - start)
            }
        }
    }
}

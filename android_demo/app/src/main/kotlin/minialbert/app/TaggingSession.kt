package minialbert.app

import android.content.Context
import android.os.Handler
import android.os.Looper
import com.google.ai.edge.litert.LiteRtException
import java.io.FileNotFoundException
import java.io.IOException
import java.util.concurrent.CancellationException
import java.util.concurrent.Executors
import minialbert.core.Entity
import minialbert.core.InputException

/** What the screen shows. */
internal sealed class State {
    object Empty : State()

    object Loading : State()

    class Working(val done: Int, val total: Int) : State()

    class Done(
        val text: String,
        val entities: List<Entity>,
        val milliseconds: Long,
        val model: OnDeviceModel,
    ) : State()

    object NoModel : State()

    class Failed(val reason: String) : State()
}

/**
 * Tags the latest text on a thread of its own; a newer text stops the work on an older one.
 *
 * The text lives in memory alone, and in no log. Everything public is for the main thread.
 */
internal class TaggingSession(private val context: Context) {
    var text = ""
        private set
    var state: State = State.Empty
        private set
    var listener: ((State) -> Unit)? = null

    private val main = Handler(Looper.getMainLooper())
    private val worker = Executors.newSingleThreadExecutor()
    private var model: OnDeviceModel? = null // the worker's

    @Volatile
    private var latest = 0 // number of the newest request

    fun submit(newText: String) {
        text = newText
        val request = begin()
        if (newText.isBlank()) {
            show(State.Empty)
        } else {
            main.postDelayed({ worker.execute { work(newText, request) } }, TYPING_PAUSE_MS)
        }
    }

    fun close() {
        begin()
        worker.execute { model?.close() }
        worker.shutdown()
    }

    /** Makes all earlier requests stale: those that run stop soon, and none of them is shown. */
    private fun begin(): Int {
        main.removeCallbacksAndMessages(null)
        return ++latest
    }

    private fun work(text: String, request: Int) {
        val result = try {
            val model = this.model ?: load(request)
            val start = System.nanoTime()
            val entities = model.tagger.tag(text) { done, total ->
                if (request != latest) throw CancellationException()
                post(request, State.Working(done, total))
            }
            State.Done(text, entities, (System.nanoTime() - start) / 1_000_000, model)
        } catch (_: CancellationException) {
            return
        } catch (_: FileNotFoundException) {
            State.NoModel
        } catch (error: IOException) {
            failed(error)
        } catch (error: InputException) {
            failed(error)
        } catch (error: LiteRtException) {
            failed(error)
        } catch (error: LinkageError) { // no LiteRT for this processor
            failed(error)
        }
        post(request, result)
    }

    private fun load(request: Int): OnDeviceModel {
        post(request, State.Loading)
        return OnDeviceModel.load(context).also { model = it }
    }

    private fun failed(error: Throwable) = State.Failed(error.message.orEmpty())

    private fun post(request: Int, state: State) {
        main.post { if (request == latest) show(state) }
    }

    private fun show(newState: State) {
        state = newState
        listener?.invoke(newState)
    }

    private companion object {
        const val TYPING_PAUSE_MS = 300L
    }
}

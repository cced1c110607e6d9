package minialbert.app

import android.app.Activity
import android.content.ClipData
import android.content.ClipboardManager
import android.content.Intent
import android.os.Build
import android.os.Bundle
import android.text.Editable
import android.text.InputFilter
import android.text.Spanned
import android.text.TextWatcher
import android.view.MotionEvent
import android.view.View
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import android.widget.Toast
import java.text.NumberFormat
import minialbert.core.entitiesToJson

/** The one screen: a text, and the entities in it. All work is [TaggingSession]'s, which outlives rotations. */
class MainActivity : Activity() {
    private lateinit var session: TaggingSession
    private val input: EditText by lazy { view(R.id.input) as EditText }
    private val clipboard by lazy { getSystemService(CLIPBOARD_SERVICE) as ClipboardManager }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_main)
        @Suppress("DEPRECATION") // in favour of AndroidX, which this app does without
        val retained = lastNonConfigurationInstance as TaggingSession?
        session = retained ?: TaggingSession(applicationContext)
        input.filters = arrayOf(LengthLimit { say(getString(R.string.text_cut, MAX_TEXT_LENGTH)) })
        input.setText(session.text)
        input.setOnTouchListener { _, event -> keepScrolling(event) }
        input.addTextChangedListener(Watcher { session.submit(it) })
        onClick(R.id.paste) { paste() }
        onClick(R.id.example) { input.setText(R.string.example_text) }
        onClick(R.id.clear) { input.setText("") }
        onClick(R.id.copy) { copy() }
        session.listener = ::show
        show(session.state)
        if (retained == null) take(intent)
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        take(intent)
    }

    @Suppress("OVERRIDE_DEPRECATION")
    override fun onRetainNonConfigurationInstance(): Any = session

    override fun onDestroy() {
        session.listener = null
        if (!isChangingConfigurations) session.close()
        super.onDestroy()
    }

    /** Lets a long text scroll inside its field; the screen around it would take the gesture for itself. */
    private fun keepScrolling(event: MotionEvent): Boolean {
        val overflows = input.canScrollVertically(1) || input.canScrollVertically(-1)
        input.parent.requestDisallowInterceptTouchEvent(overflows && event.action != MotionEvent.ACTION_UP)
        return false
    }

    /** Takes over the text that another app has sent. */
    private fun take(intent: Intent) {
        val text = when (intent.action) {
            Intent.ACTION_SEND -> intent.getCharSequenceExtra(Intent.EXTRA_TEXT)
            Intent.ACTION_PROCESS_TEXT -> intent.getCharSequenceExtra(Intent.EXTRA_PROCESS_TEXT)
            else -> null
        }
        if (text != null) input.setText(text.toString()) // without the styles it may have
    }

    private fun paste() {
        val clip = clipboard.primaryClip?.takeIf { it.itemCount > 0 }
        val text = clip?.getItemAt(0)?.text
        if (text == null) say(getString(R.string.clipboard_empty)) else input.setText(text.toString())
    }

    private fun copy() {
        val done = session.state as? State.Done ?: return
        val json = entitiesToJson(done.text, done.entities)
        if (json.length > MAX_CLIP_LENGTH) {
            say(getString(R.string.too_long_to_copy))
            return
        }
        clipboard.setPrimaryClip(ClipData.newPlainText(getString(R.string.app_name), json))
        if (Build.VERSION.SDK_INT < CLIPBOARD_CONFIRMS) say(getString(R.string.copied))
    }

    private fun show(state: State) {
        setText(R.id.status, statusOf(state))
        view(R.id.results).visibility = if (state is State.Done) View.VISIBLE else View.GONE
        if (state !is State.Done) return
        val style = EntityStyle(this, state.model.card.labels)
        setText(R.id.legend, style.legend(state.entities))
        setText(R.id.highlighted, style.highlight(state.text, state.entities))
        setLines(R.id.entities, style.list(state.entities))
        setText(R.id.facts, factsOf(state.model))
    }

    private fun statusOf(state: State): String = when (state) {
        is State.Empty -> getString(R.string.status_empty)
        is State.Loading -> getString(R.string.status_loading)
        is State.Working -> getString(R.string.status_working, state.done + 1, state.total)
        is State.NoModel -> getString(R.string.status_no_model)
        is State.Failed -> getString(R.string.status_failed, state.reason)
        is State.Done -> {
            val count = state.entities.size
            resources.getQuantityString(R.plurals.status_done, count, count, state.milliseconds)
        }
    }

    private fun factsOf(model: OnDeviceModel): String {
        val megabytes = NumberFormat.getNumberInstance().apply { maximumFractionDigits = 1 }.format(model.bytes / 1e6)
        val card = model.card
        val (vocabulary, longest) = model.vocabularySize to card.sequenceLengths.last()
        return getString(R.string.facts, card.quantization, megabytes, vocabulary, longest, model.loadMilliseconds)
    }

    private fun view(id: Int): View = findViewById(id)

    private fun setText(id: Int, text: CharSequence) {
        (view(id) as TextView).text = text
    }

    /** Shows each line in a view of its own, so that a screen reader reads them one by one. */
    private fun setLines(id: Int, lines: List<String>) {
        val list = view(id) as LinearLayout
        list.removeAllViews()
        for (line in lines) list.addView(TextView(this).apply { text = line })
    }

    private fun onClick(id: Int, action: () -> Unit) = view(id).setOnClickListener { action() }

    private fun say(message: String) = Toast.makeText(this, message, Toast.LENGTH_LONG).show()

    /** Cuts what goes beyond the limit, and says so. */
    private class LengthLimit(private val onCut: () -> Unit) : InputFilter.LengthFilter(MAX_TEXT_LENGTH) {
        override fun filter(
            source: CharSequence,
            start: Int,
            end: Int,
            dest: Spanned,
            dstart: Int,
            dend: Int,
        ): CharSequence? = super.filter(source, start, end, dest, dstart, dend).also { if (it != null) onCut() }
    }

    private class Watcher(private val onChange: (String) -> Unit) : TextWatcher {
        override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

        override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit

        override fun afterTextChanged(text: Editable) = onChange(text.toString())
    }

    private companion object {
        const val MAX_TEXT_LENGTH = 50_000 // UTF-16 units; some 20 pages, a few seconds of work
        const val MAX_CLIP_LENGTH = 200_000 // the clipboard is reached through a channel of 1 MB
        const val CLIPBOARD_CONFIRMS = 33 // the Android version from which the system itself shows what was copied
    }
}

import json

from minialbert_tf.pipelines.records import Failure, Line
from minialbert_tf.pipelines.tagging import Counts, tag_lines
from minialbert_tf.tagger import Tagger

LINES = [Line("f:1", b"aspirin\n", "text"), Failure("f:2", "f:2", "too long"), Line("f:3", b"poison", "text")]


class Fussy:
    """A runtime that fails on what holds a certain piece."""

    def __init__(self, runtime, piece):
        self.max_length = runtime.max_length
        self._runtime = runtime
        self._piece = piece

    def predict(self, sequences):
        if any(self._piece in sequence for sequence in sequences):
            raise RuntimeError("cannot\ncompute")
        return self._runtime.predict(sequences)


def test_the_model_fails_on_one_record_only(tiny_tagger_file):
    with Tagger.from_tflite(tiny_tagger_file) as tagger:
        whole = tag_lines(tagger, LINES)
        assert (whole.counts.records, whole.counts.errors) == (2, 1)
        tokens = tagger.tokenizer.encode("aspirin").ids
        poison = next(piece for piece in tagger.tokenizer.encode("poison").ids if piece not in tokens)
        fussy = Tagger(tagger.tokenizer, tagger.labels, Fussy(tagger._runtime, poison))
        result = tag_lines(fussy, LINES)
    assert result.counts == Counts(1, 2, 0, len(json.loads(result.output)["entities"]), len(tokens))
    assert result.output == whole.output.splitlines(keepends=True)[0]
    first, second = (json.loads(line) for line in result.errors.splitlines())
    assert first == {"id": "f:2", "source": "f:2", "error": "too long"}
    assert second["id"] == "f:3" and second["error"].endswith("Received: RuntimeError: cannot compute")


def test_what_cannot_be_written_is_a_failure(tiny_tagger_file, monkeypatch):
    def too_deep(*arguments, **keywords):
        raise RecursionError

    with Tagger.from_tflite(tiny_tagger_file) as tagger, monkeypatch.context() as patch:
        patch.setattr("minialbert_tf.pipelines.records.json.dumps", too_deep)
        patch.setattr("minialbert_tf.pipelines.tagging.failure_line", lambda failure: failure.error.encode())
        result = tag_lines(tagger, LINES[:1])
    assert result.errors == b"A record's fields must not be nested so deeply." and result.counts.errors == 1


def test_counts():
    total = Counts(records=1)
    total.add(Counts(1, 2, 3, 4, 5))
    assert total == Counts(2, 2, 3, 4, 5) and total.since(Counts(records=1)) == Counts(1, 2, 3, 4, 5)

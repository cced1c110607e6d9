"""From records to lines of output: what both ways of running over a corpus do with a batch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from minialbert_tf.errors import InputError
from minialbert_tf.pipelines.records import (
    Failure,
    Item,
    Line,
    Outcome,
    Record,
    Tagged,
    failure_line,
    parse,
    result_line,
)
from minialbert_tf.tagger import Tagger


@dataclass(slots=True)
class Counts:
    """What became of a corpus, or of a part of it.

    Attributes:
        records: Records that were tagged.
        errors: Records that could not be.
        unreadable: Files that are damaged, whose rest is lost.
        entities: Entities found.
        tokens: WordPieces of the texts that were tagged.
    """

    records: int = 0
    errors: int = 0
    unreadable: int = 0
    entities: int = 0
    tokens: int = 0

    def add(self, other: "Counts") -> None:
        """Adds another part's."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def since(self, earlier: "Counts") -> "Counts":
        """Returns what came on top of an earlier state."""
        return Counts(**{name: value - getattr(earlier, name) for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class Result:
    """What became of some lines.

    Attributes:
        output: Lines of JSON for the records that were tagged, in order.
        errors: Lines of JSON for those that could not be, in order.
        counts: How many there were.
    """

    output: bytes
    errors: bytes
    counts: Counts


def tag_lines(tagger: Tagger, items: Sequence[Item], with_ids: bool = True) -> Result:
    """Tags the records of some lines."""
    before = tagger.token_count
    outcomes = tag_items(tagger, items)
    counts = Counts(tokens=tagger.token_count - before)
    output: list[bytes] = []
    errors: list[bytes] = []
    for outcome in outcomes:
        written = write_outcome(outcome, counts, with_ids)
        (output if written.tagged else errors).append(written.line)
    return Result(b"".join(output), b"".join(errors), counts)


def tag_items(tagger: Tagger, items: Sequence[Item]) -> list[Outcome]:
    """Returns what becomes of each line, in order."""
    parsed = [parse(item) if isinstance(item, Line) else item for item in items]
    tagged = iter(_tag_records(tagger, [record for record in parsed if isinstance(record, Record)]))
    return [next(tagged) if isinstance(record, Record) else record for record in parsed]


@dataclass(frozen=True, slots=True)
class Written:
    """A line for the output if its record was tagged, else for the errors."""

    tagged: bool
    line: bytes


def write_outcome(outcome: Outcome, counts: Counts, with_id: bool = True) -> Written:
    """Returns the line of a record and counts it."""
    if isinstance(outcome, Tagged):
        try:
            line = result_line(outcome, with_id)
        except InputError as error:
            outcome = Failure(outcome.record.id, outcome.record.source, str(error))
        else:
            counts.records += 1
            counts.entities += len(outcome.entities)
            return Written(True, line)
    counts.errors += 1
    counts.unreadable += outcome.unreadable
    return Written(False, failure_line(outcome))


def _tag_records(tagger: Tagger, records: Sequence[Record]) -> list[Outcome]:
    """Returns what became of each record; one on which the model fails does not take the others along."""
    before = tagger.token_count
    try:
        return _tag(tagger, records)
    except Exception:
        tagger.token_count = before
        outcomes: list[Outcome] = []
        for record in records:
            try:
                outcomes += _tag(tagger, [record])
            except Exception as error:
                reason = f"The model must be able to tag the record. Received: {type(error).__name__}: {error}"
                outcomes.append(Failure(record.id, record.source, reason))
        return outcomes


def _tag(tagger: Tagger, records: Sequence[Record]) -> list[Outcome]:
    entities = tagger([record.text for record in records])
    return [Tagged(record, found) for record, found in zip(records, entities, strict=True)]

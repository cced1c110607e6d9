"""Records, good and hostile."""

import json
from pathlib import Path

WORDS = ["aspirin", "caused", "asthma", "in", "Parkinson's", "disease;", "12.5", "mg/kg", "clonidine", "did", "not"]
HOSTILE = [
    b'{"text": "Aspirin caused asthma."}',
    b'{"text": "own id", "id": "a-1", "year": 2020, "entities": "overwritten", "nested": {"k": [1, null]}}',
    b'{"text": "own id", "id": "a-1"}',  # ids need not be unique: each record is tagged
    b'{"text": "number", "id": 7}',
    b'{"text": ""}',
    b'{"text": "\\ud800 half a pair \\u0000"}',
    b'{"text": "broken',
    b"",
    b"[1, 2]",
    b'{"id": "no-text"}',
    b'{"id": "x", "text": 5}',
    b'{"id": true, "text": "asthma"}',
    b'{"text": "asthma", "score": NaN}',
    b'{"text": "asthma", "score": 1e999}',
    b'{"text": "\xff asthma"}',
    b"[" * 100_000,
    b'{"text": "asthma", "n": ' + b"9" * 5000 + b"}",
    b'{"text": "' + b"a" * 10_000_000 + b'"}',
    b'{"text": "last, without a line end"}',
]
TAGGED = [1, 2, 3, 4, 5, 6, 19]  # lines of HOSTILE


def sentences(count: int) -> list[str]:
    return [" ".join(WORDS[number % 5 : number % 11 + 1]) + f" {number}" for number in range(count)]


def read_jsonl(*paths: Path) -> list[dict]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]

"""Writes CharacterTables.kt: what Hugging Face's tokenizers library does with each Unicode character.

    python android_demo/checks/make_character_tables.py [--check]

With --check nothing is written, and the exit code is 1 if the file in the tree differs.
"""

import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

OUTPUT = Path(__file__).parents[1] / "core/src/main/kotlin/minialbert/core/CharacterTables.kt"
SURROGATES = range(0xD800, 0xE000)
# Kotlin states these by hand: they are few and will not change.
WHITESPACE = {0x09, 0x0A, 0x0D, 0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
CAPITAL_I_WITH_DOT = 0x130  # the one character whose lower case is two

HEADER = """\
// Written by checks/make_character_tables.py from Hugging Face's tokenizers library; not to be edited.
package minialbert.core
"""


def main(check: bool) -> int:
    """Writes the file, or compares it."""
    content = make_tables()
    if check:
        return int(OUTPUT.read_text(encoding="ascii") != content)
    OUTPUT.write_text(content, encoding="ascii")
    return 0


def make_tables() -> str:
    """Returns the Kotlin source."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if code not in SURROGATES]
    clean, strip, lower = normalizer(clean_text=True), normalizer(strip_accents=True), normalizer(lowercase=True)
    cleaned = {c: clean(f"a{c}a")[1:-1] for c in characters}  # a space at the end of a text would be hard to see
    stripped = {c: strip(c) for c in characters}
    lowered = {c: lower(c) for c in characters}
    assert {ord(c) for c in characters if cleaned[c] == " "} == WHITESPACE
    assert [ord(c) for c in characters if len(lowered[c]) > 1] == [CAPITAL_I_WITH_DOT]
    tables = {
        "DROPPED": ranges(c for c in characters if not cleaned[c]),
        "PUNCTUATION": ranges(filter(is_punctuation, characters)),
        "NONSPACING_MARKS": ranges(c for c in characters if not stripped[c]),
        "DECOMPOSED": ranges(c for c in characters if stripped[c] not in ("", c)),
        "LOWERCASE": lowercase_runs({ord(c): ord(lowered[c]) for c in characters if lowered[c] != c and c != "\u0130"}),
    }
    return HEADER + "".join(constant(name, value) for name, value in tables.items())


def normalizer(**wanted: bool) -> Callable[[str], str]:
    """Returns a function that does one of BertNormalizer's steps."""
    steps = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return BertNormalizer(**{**steps, **wanted}).normalize_str


def is_punctuation(character: str) -> bool:
    """Whether BERT splits a word before and after the character."""
    return len(BertPreTokenizer().pre_tokenize_str(f"a{character}a")) == 3


def ranges(characters: Iterable[str]) -> str:
    """Returns the code points of ascending characters as hexadecimal ranges."""
    pairs: list[list[int]] = []
    for code in map(ord, characters):
        if pairs and pairs[-1][1] == code - 1:
            pairs[-1][1] = code
        else:
            pairs.append([code, code])
    return " ".join(f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in pairs)


def lowercase_runs(mapping: dict[int, int]) -> str:
    """Returns a mapping of code points as hexadecimal runs first:last:step:difference."""
    left = dict(sorted(mapping.items()))
    runs = []
    while left:
        first = next(iter(left))
        difference = left[first] - first
        run = max((follow(left, first, step, difference) for step in (1, 2)), key=len)
        for code in run:
            del left[code]
        runs.append(f"{run.start:x}:{run[-1]:x}:{run.step:x}:{difference:x}")
    return " ".join(runs)


def follow(mapping: dict[int, int], first: int, step: int, difference: int) -> range:
    """Returns the longest run from `first` on that no other mapping of the table interrupts."""
    end = first
    while mapping.get(end) == end + difference and all(code not in mapping for code in range(end - step + 1, end)):
        end += step
    return range(first, end, step)


def constant(name: str, value: str) -> str:
    """Returns a Kotlin constant, folded."""
    lines = textwrap.wrap(value, 110, break_on_hyphens=False)
    return f"\ninternal const val {name} =\n    " + ' " +\n    '.join(f'"{line}' for line in lines) + '"\n'


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))

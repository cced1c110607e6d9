"""What BERT's tokenizer makes of each Unicode character, as a table small enough to be part of a graph."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from minialbert_tf.tokenization import WordPieceTokenizer

PAGE_BITS = 8
CODE_BITS = 21
LETTER, SPACE, PUNCTUATION = range(3)
NOTHING = -1
ITSELF = 0  # NUL, which no character becomes because cleaning removes it

_PAGE = 1 << PAGE_BITS
_CODES = 0x110000
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True)
class CharacterTable:
    """The normaliser and the splitter of a tokenizer, character by character.

    Character c becomes the row `rules[entries[pages[c >> PAGE_BITS], c & (1 << PAGE_BITS) - 1]]`: up to as many
    characters as the row is wide, then `NOTHING`. Each is its code point, or `ITSELF` if that is c, with its class,
    `LETTER`, `SPACE` or `PUNCTUATION`, in the bits from `CODE_BITS` on.

    Attributes:
        pages: int32 (0x110000 >> PAGE_BITS,), the row of `entries` for each page of code points.
        entries: int32 (different pages, 1 << PAGE_BITS), a row of `rules` for each code point.
        rules: int32 (different outcomes, most characters that one becomes).
    """

    pages: np.ndarray
    entries: np.ndarray
    rules: np.ndarray


def character_table(tokenizer: WordPieceTokenizer) -> CharacterTable:
    """Asks the library behind the tokenizer about every character, so that its version of Unicode holds."""
    return _table(tokenizer.lowercase, tokenizer.strip_accents, tokenizer.tokenize_chinese_chars)


@cache  # takes seconds
def _table(lowercase: bool, strip_accents: bool, tokenize_chinese_chars: bool) -> CharacterTable:
    normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    # Surrogates never come out of a decoder; the table holds them as removed.
    outcomes = ["" if code in _SURROGATES else normalizer.normalize_str(chr(code)) for code in range(_CODES)]
    classes = _classes(set("".join(outcomes)))
    rows: dict[tuple[int, ...], int] = {}
    entries = np.empty(_CODES, np.int32)
    for code, outcome in enumerate(outcomes):
        row = tuple(
            (ITSELF if ord(character) == code else ord(character)) | classes.get(character, LETTER) << CODE_BITS
            for character in outcome
        )
        entries[code] = rows.setdefault(row, len(rows))
    rules = np.full((len(rows), max(map(len, rows))), NOTHING, np.int32)
    for row, number in rows.items():
        rules[number, : len(row)] = row
    entries, pages = np.unique(entries.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return CharacterTable(pages.reshape(-1).astype(np.int32), entries, rules)


def _classes(characters: set[str]) -> dict[str, int]:
    """Returns the class of each character that is no letter."""
    # Between letters, a space vanishes and a punctuation mark becomes a word of its own.
    text = "a" + "a".join(sorted(characters)) + "a"
    words = [word for word, _ in BertPreTokenizer().pre_tokenize_str(text)]
    seen = set("".join(words))
    punctuation = {word: PUNCTUATION for word in words if "a" not in word}
    return punctuation | {character: SPACE for character in characters if character not in seen}

"""Entities shown in their text on a terminal."""

import unicodedata
import zlib
from collections.abc import Iterable

from minialbert_tf.tagger import Entity

# Backgrounds on which black can be read: green, yellow, magenta, cyan, and the bright colours.
_BACKGROUNDS = (42, 43, 45, 46, 101, 102, 103, 104, 105, 106)
_RESET = "\x1b[0m"


def highlight(text: str, entities: Iterable[Entity], color: bool) -> str:
    """Marks the entities in a text as `[mention Label]`, in colour if wanted.

    A label always has the same colour, and is spelled out beside it. Characters that could drive the terminal or
    reorder the line (escape sequences, control characters, bidirectional overrides) are shown as `\\x1b` or `\\u202e`;
    only tabs and line feeds stay.

    Args:
        text: The text that was tagged.
        entities: Its entities, in order and without overlap, as the Tagger returns them.
        color: Whether to emit ANSI colours; callers decide by terminal and NO_COLOR.
    """
    parts = []
    position = 0
    for entity in entities:
        parts.append(_visible(text[position : entity.start]))
        parts.append(_mark(_visible(text[entity.start : entity.end]), _visible(entity.label), color))
        position = entity.end
    parts.append(_visible(text[position:]))
    return "".join(parts)


def _mark(mention: str, label: str, color: bool) -> str:
    if not color:
        return f"[{mention} {label}]"
    background = _BACKGROUNDS[zlib.crc32(label.encode()) % len(_BACKGROUNDS)]
    return f"\x1b[30;{background}m {mention} \x1b[1m{label} {_RESET}"


def _visible(text: str) -> str:
    return "".join(character if _is_harmless(character) else _escape(character) for character in text)


def _is_harmless(character: str) -> bool:
    if character in "\t\n\u200d":  # U+200D joins emoji
        return True
    # Controls, format characters such as overrides, surrogates, and what some terminals take for line ends.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

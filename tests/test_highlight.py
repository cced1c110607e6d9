import re
import unicodedata

import pytest

from minialbert_tf.highlight import highlight
from minialbert_tf.tagger import Entity

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
TEXT = "Aspirin caused asthma."
ENTITIES = [Entity("Aspirin", "Chemical", 0, 7, 0.9), Entity("asthma", "Disease", 15, 21, 0.8)]


def test_without_colour():
    assert highlight(TEXT, ENTITIES, color=False) == "[Aspirin Chemical] caused [asthma Disease]."
    assert highlight(TEXT, [], color=False) == TEXT


def test_colours_are_those_of_the_label_and_not_alone():
    marked = highlight(TEXT, ENTITIES, color=True)
    assert ESCAPES.sub("", marked) == " Aspirin Chemical  caused  asthma Disease ."
    chemical, disease = re.findall(r"\x1b\[30;(\d+)m", marked)
    assert chemical != disease
    assert re.findall(r"\x1b\[30;(\d+)m", highlight(TEXT, ENTITIES[1:], color=True)) == [disease]
    assert marked.count("\x1b[0m") == 2


CONTROLS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\b", "\x00", "\x7f", "\x85"]
HOSTILE = [*CONTROLS, "\u202e", "\u2067", "\u2028", "\ud800"]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("color", [True, False])
def test_hostile_characters_become_visible_wherever_they_stand(hostile, color):
    mention = f"as{hostile}thma"
    text = f"{hostile}x{mention}y{hostile}"
    start = len(hostile) + 1
    marked = highlight(text, [Entity(mention, f"Dis{hostile}", start, start + len(mention), 1.0)], color)
    rest = ESCAPES.sub("", marked)
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in rest)
    assert rest.count(ascii(hostile)[1:-1]) == 4
    marked.encode()


def test_ordinary_text_stays():
    text = "Größe\tα 中文 مَرْحَبًا 👩‍👧 \ue000 a\\x1b\n"
    assert highlight(text, [], color=True) == text

import dataclasses
import hashlib
import json
import math

import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.conversion import Conversion
from minialbert_tf.export.measurements import F1, Agreement, Difference, Measurements, Part, Weights
from minialbert_tf.export.recipes import RECIPES
from minialbert_tf.export.report import Report, check

INT8 = RECIPES["int8"]
GOOD = Measurements(
    operators={"FULLY_CONNECTED": 3},
    custom_operators=(),
    weights=Weights({"block": Part(1000, 8, 1000), "word_scales": Part(9, 8, 9)}, 40, ()),
    differences=(Difference(16, 1.23456e-7, 0.0123456), Difference(32, 1e-5, 0.2)),
    agreement=Agreement(1234, 0.987),
    f1=F1(50, 0.75, 0.748),
)


def changed(**changes):
    return dataclasses.replace(GOOD, **changes)


def test_what_is_good_enough_passes():
    check(GOOD, INT8)
    check(changed(agreement=None, f1=None), INT8)
    check(changed(agreement=Agreement(10, 0.95), f1=F1(50, 0.5, 0.9)), INT8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"custom_operators": ("FlexErf",)}, "one of TFLite's own. Received: FlexErf"),
        ({"weights": Weights({}, 40, ("5 of 9 x 9 in 8 bits",))}, "in the file once. Received more: 5 of 9 x 9"),
        ({"differences": (Difference(16, 2e-4, 0.1),)}, "agree with Keras to 0.0001 .* Received: 2.0e-04 at length 16"),
        ({"differences": (Difference(16, math.nan, 0.1),)}, "Received: nan at length 16"),
    ],
)
def test_what_is_wrong_is_refused_even_by_force(changes, message):
    for force in (False, True):
        with pytest.raises(InputError, match=message):
            check(changed(**changes), INT8, force)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agreement": Agreement(10, 0.94)}, r"int8 must keep 95.0% of the labels .*--force-quality.* 94.0% of 10"),
        ({"agreement": Agreement(10, math.nan)}, "Received: nan% of 10"),
        ({"f1": F1(50, 0.75, 0.7469)}, r"lose at most 0.3 points of F1; .*Received: 74.69, in floats 75.00"),
    ],
)
def test_what_loses_too_much_is_refused_unless_forced(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        check(changed(**changes), INT8)
    assert "\n" not in str(caught.value)
    check(changed(**changes), INT8, force_quality=True)


def test_measurements_survive_json():
    for measured in (GOOD, changed(agreement=None, f1=None)):
        assert Measurements.from_json(json.loads(json.dumps(measured.to_json()))) == measured


@pytest.fixture
def report(tiny_tagger_file, tiny_tagger):
    conversion = Conversion("token-classification", "int8", (16, 32), tiny_tagger.config.to_dict(), loop=True)
    return Report.of(tiny_tagger_file, conversion, INT8, GOOD)


def test_a_report_in_json(report, tiny_tagger_file):
    content = tiny_tagger_file.read_bytes()
    values = report.to_json()
    assert values["file"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert values["model"]["sha256"] == hashlib.sha256(content[: values["model"]["bytes"]]).hexdigest()
    assert (values["graph"], values["dynamic"], values["recursions"]) == ("loop", False, 2)
    assert values["weights"]["parts"]["block"] == {"parameters": 1000, "bits": 8, "bytes": 1000}
    assert values["difference_from_keras"]["16"] == {"floats": 1.2e-7, "quantized": 0.012}
    assert values["agreement"] == {"decisions": 1234, "same": 0.987, "at_least": 0.95}
    assert values["f1"] == {"sentences": 50, "floats": 0.75, "quantized": 0.748, "may_lose": 0.003}
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert str(tiny_tagger_file.parent) not in json.dumps(values)


def test_a_report_in_words(report):
    lines = str(report).splitlines()
    assert "int8: 8-bit weights" in lines[0] and "lengths 16, 32" in lines[0]
    table = {line.split("  ")[0]: line.split() for line in lines}
    assert table["block"][-3:] == ["1,000", "8", "1,000"] and table["word scales"][-1] == "9"
    assert table["length 16"][-2:] == ["1.2e-07", "1.2e-02"]
    assert "98.70% of 1,234 (at least 95.0%)" in str(report)
    assert "entity F1 on 50 sentences: 0.7480, in floats 0.7500 (may lose 0.003)" in str(report)
    assert max(map(len, lines)) <= 110

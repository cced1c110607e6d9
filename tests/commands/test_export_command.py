"""`minialbert export tflite` around the conversion, which has tests of its own."""

import dataclasses
import json

import pytest
from command_checks import assert_refused, tree

from minialbert_tf.export.measurements import F1, Agreement, Difference, Measurements, Weights

MEASURED = Measurements(
    operators={"ADD": 1},
    custom_operators=(),
    weights=Weights({}, 1, ()),
    differences=(Difference(16, 1e-7, 0.01),),
    agreement=Agreement(100, 0.95),
    f1=None,
)


@pytest.fixture
def asked(monkeypatch, tiny_tagger_file):
    """Puts a file and measurements in place of the conversion; returns what was asked of it."""
    asked = {"measured": MEASURED}

    def convert(model, tokenizer, conversion, checks):
        asked.update(conversion=conversion, checks=checks)
        return tiny_tagger_file.read_bytes(), asked["measured"]

    monkeypatch.setattr("minialbert_tf.export.tflite.convert", convert)
    return asked


@pytest.fixture
def command(checkpoint):
    return ("export", "tflite", "--model", checkpoint, "--output", "ner.tflite", "--lengths", "16")


def test_a_table_for_people_and_json_for_programs(command, asked, folder, run):
    code, out, _ = run(*command)
    assert code == 0
    assert "int8" in out and "95.00% of 100" in out and out.endswith("wrote ner.tflite and ner.tflite.json\n")
    report = json.loads((folder / "ner.tflite.json").read_text())
    code, out, _ = run(*command, "--force", "--json")
    assert code == 0 and json.loads(out) == report
    assert report["agreement"]["same"] == 0.95 and report["quantization"] == "none"  # as the file in place says
    assert asked["conversion"].quantization == "int8"


def test_a_file_that_lost_too_much_is_refused_unless_forced(command, asked, folder, run):
    asked["measured"] = dataclasses.replace(MEASURED, f1=F1(9, 0.8, 0.7))
    assert_refused(run(*command), "export", "int8 must lose at most 0.3 points of F1")
    assert_refused(run(*command, "--force"), "export", "--force-quality")
    assert tree(folder) == {}
    assert run(*command, "--force-quality")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["ner.tflite", "ner.tflite.json"]


def test_neither_of_the_files_is_overwritten(command, asked, folder, run):
    (folder / "ner.tflite.json").write_text("mine")
    assert_refused(run(*command), "export", "must not exist yet; use force (--force) to replace it. Received: ner.tfl")
    assert (folder / "ner.tflite.json").read_text() == "mine" and "conversion" not in asked
    assert run(*command, "--force")[0] == 0


def test_texts_and_data_of_the_user(command, asked, corpus, folder, run):
    (folder / "a.txt").write_text("the lung\n\n" + "pain was there\n" * 2000)
    (folder / "b.txt").write_text("aspirin\n")
    calibrated = ("--quantization", "int8-static", "--calibration", "b.txt", "b.txt")
    assert run(*command, "--texts", "a.txt", "b.txt", "--data", corpus, "--part", "dev", *calibrated)[0] == 0
    conversion, checks = asked["conversion"], asked["checks"]
    assert len(checks.probes) == 1000 + 1 and len(checks.sentences) == 8
    assert len(conversion.calibration) % 2 == 0 and len(conversion.calibration) < 20


def test_bad_texts_and_data(command, checkpoint, corpus, folder, run):
    (folder / "empty.txt").write_text("\n \n")
    (folder / "binary.txt").write_bytes(b"\0\1")
    (folder / "test.tsv").write_text("BRCA1\tB-Gene\n")
    for arguments, message in (
        (("--texts", "none.txt"), "must be existing text files"),
        (("--texts", "empty.txt"), "The texts must have words"),
        (("--texts", "binary.txt"), "binary.txt:1: A corpus must be text"),
        (("--calibration", "empty.txt"), "calibration is for int8-static and int16x8. Received: int8"),
        (("--data", "none"), "none/test.tsv"),
        (("--data", "."), "Every tag must be one of"),
        (("--data", corpus, "--task", "classification"), "data is for models that label tokens"),
    ):
        assert_refused(run(*command, *arguments), "export", message)
    assert not (folder / "ner.tflite").exists()


@pytest.mark.parametrize("name", ["float32", "none"])
def test_names_of_quantizations(command, asked, folder, run, name):
    asked["measured"] = dataclasses.replace(MEASURED, agreement=None)
    assert run(*command, "--quantization", name)[0] == 0
    assert asked["conversion"].quantization == "none"

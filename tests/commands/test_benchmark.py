import json

import pytest
from command_checks import assert_refused

QUICK = ("--seconds", "0.01")


def test_figures_and_scores_as_json(tiny_tagger_file, folder, run):
    (folder / "test.tsv").write_text("Aspirin\tB-X\ncaused\tO\nasthma\tB-X\n")
    code, out, _ = run("benchmark", tiny_tagger_file, "--lengths", "16", "--data", ".", "--json", *QUICK)
    assert code == 0
    report = json.loads(out)
    assert report["machine"]["cores"] >= 1 and report["machine"]["ai-edge-litert"]
    (row,) = report["measurements"]
    assert (row["file"], row["length"], row["threads"]) == (str(tiny_tagger_file), 16, 1)
    assert row["p50_ms"] > 0 and 0 <= row["f1"] <= 1


def test_a_table_and_a_picture(tiny_tagger_file, folder, run):
    pytest.importorskip("matplotlib")
    command = ("benchmark", tiny_tagger_file, "--lengths", "8", "--plot", "sizes.png", *QUICK)
    code, out, err = run(*command)
    assert code == 0
    assert out.startswith(f"{tiny_tagger_file}: ") and "p50 ms" in out and "ai-edge-litert" in out
    assert err.endswith("wrote sizes.png\n")
    assert (folder / "sizes.png").read_bytes().startswith(b"\x89PNG")
    assert_refused(run(*command), "benchmark", "use force (--force) to replace it. Received: sizes.png")


def test_bad_input(tiny_tagger_file, folder, run):
    for arguments, message in (
        (("none.tflite",), "must be a .tflite file. Received: none.tflite"),
        ((tiny_tagger_file, "--seconds", "0"), "seconds must be more than 0. Received: 0.0"),
        ((tiny_tagger_file, "--seconds", "nan"), "seconds must be more than 0. Received: nan"),
        ((tiny_tagger_file, "--lengths", "64"), "takes at most 32 pieces"),
        ((tiny_tagger_file, "--data", "none"), "none/test.tsv"),
    ):
        assert_refused(run("benchmark", *arguments), "benchmark", message)
    assert list(folder.iterdir()) == []

import base64
import hashlib
import xml.etree.ElementTree as ET

import pytest

from android_demo.checks import app_checks, run, tools
from android_demo.checks.kotlin_checks import entity_differences, piece_differences
from minialbert_tf.tagger import Entity
from minialbert_tf.tokenization import Pieces

TEXTS = ["aspirin", "none"]
ENTITIES = [[Entity("aspirin", "Chemical", 0, 7, 0.5)], []]


def test_equal_entities():
    assert entity_differences(TEXTS, ENTITIES, [[Entity("aspirin", "Chemical", 0, 7, 0.5 + 1e-12)], []]) == []


@pytest.mark.parametrize(
    "found",
    [
        [[], []],
        [ENTITIES[0] * 2, []],
        [[], ENTITIES[0]],
        [[Entity("aspirin", "Disease", 0, 7, 0.5)], []],
        [[Entity("aspirin", "Chemical", 0, 6, 0.5)], []],
        [[Entity("aspirin", "Chemical", 0, 7, 0.5 + 1e-6)], []],
    ],
)
def test_differing_entities(found):
    assert len(entity_differences(TEXTS, ENTITIES, found)) >= 1


def test_pieces():
    pieces = [Pieces([5, 6], [(0, 3), (3, 7)], [0, 0])]
    assert piece_differences(["aspirin"], pieces, [[[5, 6], [0, 3], [3, 7], [0, 0]]]) == []
    for found in ([[5, 7], [0, 3], [3, 7], [0, 0]], [[5, 6], [0, 3], [3, 6], [0, 0]], [[5, 6], [0, 3], [3, 7], [0, 1]]):
        assert len(piece_differences(["aspirin"], pieces, [found])) == 1


def test_exit_codes(monkeypatch, capsys):
    def skip():
        raise tools.SkipError("needs a tool")

    def fail():
        raise tools.FailureError("it is wrong")

    monkeypatch.setattr(run, "CHECKS", {"good": lambda: "fine", "absent": skip, "bad": fail})
    assert run.main(["good", "absent"]) == 0
    assert run.main(["--strict", "good", "absent"]) == 1
    assert run.main([]) == 1
    output = capsys.readouterr().out
    assert "skip absent (0 s): needs a tool\n" in output
    assert output.endswith("1 passed, 1 failed, 1 skipped\n")
    with pytest.raises(SystemExit):
        run.main(["other"])


def test_absent_tools_are_named():
    with pytest.raises(tools.SkipError, match="apt-get install a-package"):
        tools.program("no-such-program", "a-package")
    with pytest.raises(tools.SkipError, match="apt-get install a-package"):
        tools.file("/no/such/file", "a-package")


def test_downloads_are_pinned(tmp_path):
    assert len(base64.b64decode(tools.KOTLIN_INTEGRITY)) == 64
    download = tmp_path / "download"
    download.write_bytes(b"content")
    tools.check_digest(download, hashlib.sha256(b"content").digest(), "sha256")
    with pytest.raises(tools.FailureError, match="download must have the sha256"):
        tools.check_digest(download, hashlib.sha256(b"other").digest(), "sha256")
    assert not download.exists()


def test_a_manifest_that_keeps_permissions_shows_them(tmp_path):
    manifest = tmp_path / "AndroidManifest.xml"
    source = (app_checks.APP / "AndroidManifest.xml").read_text(encoding="utf-8")
    assert not list(app_checks.merged_manifest(app_checks.APP / "AndroidManifest.xml", "a.b").iter("uses-permission"))
    manifest.write_text(source.replace('<uses-permission tools:node="removeAll" />', ""), encoding="utf-8")
    kept = app_checks.merged_manifest(manifest, "a.b").iter("uses-permission")
    assert len(list(kept)) == len(app_checks.LIBRARY_PERMISSIONS)


def test_texts_outside_of_the_resources_are_found(tmp_path):
    layout = tmp_path / "layout.xml"
    layout.write_text(f'<TextView xmlns:android="{app_checks.ANDROID[1:-1]}" android:text="Paste" />', encoding="utf-8")
    strings = app_checks.APP / "res/values/strings.xml"
    with pytest.raises(tools.FailureError, match="'Paste'"):
        app_checks.check_strings({path: ET.parse(path).getroot() for path in (strings, layout)})

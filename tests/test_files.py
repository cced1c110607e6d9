import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.files import check_free, replacing


def test_a_file_appears_only_when_all_went_well(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with replacing(target) as path:
        path.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(RuntimeError), replacing(target, force=True) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "one"
    assert [entry.name for entry in target.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    for content in ("a", "b"):
        with replacing(target, force=True) as path:
            path.mkdir()
            (path / content).write_text(content)
    assert [entry.name for entry in target.iterdir()] == ["b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_what_exists_is_refused_without_force(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="must not exist yet"), replacing(tmp_path / "file"):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="must not exist yet"):
        check_free(tmp_path)
    (tmp_path / "empty").mkdir()
    assert check_free(tmp_path / "empty") == tmp_path / "empty"


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_output_needs_a_name(name, force, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="must have a name"):
        check_free(name, force)


KILLED = """
import os, signal, sys
from pathlib import Path
from minialbert_tf.files import replacing

target, kind, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with replacing(target, force=True) as path:
    if moment == "before": os.kill(os.getpid(), signal.SIGKILL)
    if kind == "folder": path.mkdir()
    file = path / "content" if kind == "folder" else path
    file.write_text("half")
    if moment == "within": os.kill(os.getpid(), signal.SIGKILL)
    file.write_text("half and half")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "expected"), [("before", "old"), ("within", "old"), ("after", "half and half")])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_process_leaves_the_old_or_the_new(kind, moment, expected, tmp_path):
    target = tmp_path / "target"
    content = target / "content" if kind == "folder" else target
    content.parent.mkdir(exist_ok=True)
    content.write_text("old")
    command = [sys.executable, "-c", KILLED, target, kind, moment]
    result = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert content.read_text() == expected
    with replacing(target, force=True) as path:  # what the dead process left does not matter
        path.write_text("new")
    assert target.read_text() == "new"

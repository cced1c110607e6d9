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

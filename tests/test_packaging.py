"""What the wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because setuptools leaves its build folders in the tree.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if tracked.returncode:
        pytest.skip("needs a git checkout, to leave build products out")
    for name in tracked.stdout.decode().split("\0"):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "android_demo/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, "./source"]
    subprocess.run([sys.executable, *build], cwd=folder, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_installs_one_top_level_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"minialbert_tf"}
    for needed in ("export/tflite.py", "commands/tag.py", "data/sample/train.tsv", "py.typed"):
        assert f"minialbert_tf/{needed}" in names


def test_the_installed_package_finds_its_parts(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import minialbert_tf, minialbert_tf.export.bundle as bundle, minialbert_tf.data.sample as sample, sys;"
        "assert sample.sample_folder().joinpath('train.tsv').is_file();"
        "print(bundle.__file__)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(tmp_path / "site" / "minialbert_tf" / "export" / "bundle.py")

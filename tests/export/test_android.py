from pathlib import Path

import pytest

from minialbert_tf.errors import InputError
from minialbert_tf.export.android import ASSET, export_android
from minialbert_tf.export.bundle import write_bundle

DEMO = Path(__file__).resolve().parents[2] / "android_demo"


@pytest.fixture
def project(tmp_path):
    manifest = tmp_path / "project" / "app" / "src" / "main" / "AndroidManifest.xml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("<manifest />")
    return tmp_path / "project"


@pytest.fixture
def model(tmp_path, tiny_model):
    write_bundle(tmp_path / "ner.tflite", **tiny_model.arguments())
    return tmp_path / "ner.tflite"


def test_the_copy_is_where_the_app_looks(project, model):
    assert export_android(model, project) == project / "app/src/main/assets/model.tflite"
    assert (project / ASSET).read_bytes() == model.read_bytes()
    assert [path.name for path in (project / ASSET).parent.iterdir()] == ["model.tflite"]


def test_the_app_agrees_about_the_name():
    source = (DEMO / "app/src/main/kotlin/minialbert/app/OnDeviceModel.kt").read_text(encoding="utf-8")
    assert f'ASSET = "{ASSET.name}"' in source
    assert f"{ASSET.parent.as_posix()}/*.tflite" in (DEMO / ".gitignore").read_text(encoding="utf-8")


def test_a_model_is_replaced_only_if_forced(project, model):
    (project / ASSET).parent.mkdir()
    (project / ASSET).write_bytes(b"old")
    with pytest.raises(InputError, match="must not exist yet"):
        export_android(model, project)
    assert (project / ASSET).read_bytes() == b"old"
    export_android(model, project, force=True)
    assert (project / ASSET).read_bytes() == model.read_bytes()


def test_what_the_app_cannot_use_is_refused(tmp_path, project, model, tiny_model):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"damaged\.tflite"):
        export_android(damaged, project)
    other = tmp_path / "other.tflite"
    write_bundle(other, **{**tiny_model.arguments(), "task": "text-classification"})
    with pytest.raises(InputError, match="Received: text-classification"):
        export_android(other, project)
    with pytest.raises(InputError, match=r"Received: .*elsewhere"):
        export_android(model, tmp_path / "elsewhere")
    assert not (project / ASSET).exists()

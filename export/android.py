"""Putting a model into the Android demo, or into a project that began as a copy of it."""

import shutil
from pathlib import Path

from minialbert_tf.errors import InputError
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.files import replacing

ASSET = Path("app", "src", "main", "assets", "model.tflite")
_MANIFEST = Path("app", "src", "main", "AndroidManifest.xml")


def export_android(model: str | Path, project: str | Path, force: bool = False) -> Path:
    """Copies a .tflite file to where the Android demo looks for its model; build the app again afterwards.

    Args:
        model: A file that `export_tflite` wrote, for token classification.
        project: The Gradle project's folder, such as android_demo.
        force: Whether the project's present model is replaced.

    Returns:
        The copy's path.

    Raises:
        InputError: If the file is damaged, none of ours or for another task, if the folder is no such project, or if
            it has a model and `force` is false.
    """
    project = Path(project)
    if not (project / _MANIFEST).is_file():
        raise InputError(f"The project must be the Android demo or a copy, with {_MANIFEST}. Received: {project}")
    task = read_bundle(model).card.task
    if task != "token-classification":
        raise InputError(f"The app finds entities: the model must be for token-classification. Received: {task}")
    with replacing(project / ASSET, force) as new:
        shutil.copyfile(model, new)
    return project / ASSET

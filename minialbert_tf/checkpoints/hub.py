"""Where a checkpoint is: a local folder or file, or a model of the Hugging Face hub, downloaded once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from minialbert_tf.builtin import BUILTIN, ENCODER
from minialbert_tf.errors import CheckpointError

SAFETENSORS_FILE: Final = "model.safetensors"
TORCH_FILE: Final = "pytorch_model.bin"
INDEX_SUFFIX: Final = ".index.json"  # of a checkpoint in several shards
CHECKPOINT_FILES: Final = (
    "config.json",
    SAFETENSORS_FILE,
    TORCH_FILE,
    SAFETENSORS_FILE + INDEX_SUFFIX,
    TORCH_FILE + INDEX_SUFFIX,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
)


def resolve(path_or_hub_id: str | Path, needs: Sequence[str] = CHECKPOINT_FILES) -> Path:
    """Returns the local folder or file of a checkpoint, downloading a hub model's files where they are not yet cached.

    Args:
        path_or_hub_id: "builtin", the encoder that comes with the package; an existing folder or file; or a hub id
            such as "nlpie/bio-miniALBERT-128".
        needs: Files wanted from the hub; those a model lacks are left out. `pytorch_model.bin` is fetched only when
            there is no `model.safetensors`.

    Raises:
        CheckpointError: If there is no such folder, or the hub cannot give the model.
    """
    if path_or_hub_id == BUILTIN:
        return ENCODER
    try:
        path = Path(path_or_hub_id).expanduser()
        if path.exists():
            return path
    except (OSError, RuntimeError):  # no name that a file can have, or no such user's home
        pass
    if not isinstance(path_or_hub_id, str) or not _is_hub_id(path_or_hub_id):
        raise CheckpointError(f"There must be such a folder or file, and there is none. Received: {path_or_hub_id}")
    folder = _download(path_or_hub_id, [name for name in needs if name != TORCH_FILE])
    if TORCH_FILE in needs and not (folder / SAFETENSORS_FILE).is_file():
        folder = _download(path_or_hub_id, [TORCH_FILE])
    return folder


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _download(hub_id: str, files: list[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=files))
    except GatedRepoError:
        reason = "the hub gives this model only to those who accepted its terms: accept them and run `hf auth login`"
    except RepositoryNotFoundError:
        reason = "no such folder, and no such model on the hub, unless it is private: then run `hf auth login`"
    except LocalEntryNotFoundError:
        reason = (
            "no such folder, nor such a model in the cache, and the hub is out of reach or off (HF_HUB_OFFLINE=1): "
            f"run `hf download {hub_id}` where there is a network and pass the folder"
        )
    except Exception as error:  # of the hub client's HTTP library, which differs by version; a full disk
        reason = f"the download failed, so get the model by other means and pass its folder: {error!r:.200}"
        raise CheckpointError(f"A checkpoint must be available: {reason}. Received: {hub_id}") from error
    raise CheckpointError(f"A checkpoint must be available: {reason}. Received: {hub_id}")

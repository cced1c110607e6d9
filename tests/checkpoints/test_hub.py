import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from minialbert_tf.checkpoints.hub import CHECKPOINT_FILES, resolve
from minialbert_tf.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one model; `hub.files` are what it has, `hub.asked` the patterns of each request."""

    class Hub:
        def __init__(self):
            self.files: tuple[str, ...] = ()
            self.asked: list[list[str]] = []

        def snapshot_download(self, repo_id, allow_patterns):
            self.asked.append(allow_patterns)
            folder = tmp_path / "cache" / repo_id
            folder.mkdir(parents=True, exist_ok=True)
            for name in self.files:
                if name in allow_patterns:
                    (folder / name).touch()
            return str(folder)

    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return hub


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_local_folders_and_files_win_over_the_hub(hub, tmp_path):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "weights.bin").touch()
    assert resolve("owner/name") == Path("owner/name")
    assert resolve(tmp_path / "owner" / "weights.bin") == tmp_path / "owner" / "weights.bin"
    assert hub.asked == []


def test_a_home_folder_is_expanded(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve("~/model") == tmp_path / "model"


def test_safetensors_alone_are_fetched_where_there_are_some(hub):
    hub.files = ("config.json", "model.safetensors", "pytorch_model.bin", "vocab.txt", "tf_model.h5")
    assert names(resolve("owner/name")) == {"config.json", "model.safetensors", "vocab.txt"}


def test_pytorch_weights_are_fetched_where_there_are_no_safetensors(hub):
    hub.files = ("config.json", "pytorch_model.bin", "tokenizer.json")
    assert names(resolve("name")) == {"config.json", "pytorch_model.bin", "tokenizer.json"}


def test_only_what_is_needed_is_asked_for(hub):
    hub.files = CHECKPOINT_FILES
    assert names(resolve("owner/name", needs=("config.json",))) == {"config.json"}
    assert hub.asked == [["config.json"]]


def test_an_index_of_shards_is_fetched_so_that_it_can_be_refused(hub):
    hub.files = ("config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors")
    assert names(resolve("owner/name")) == {"config.json", "model.safetensors.index.json"}


@pytest.mark.parametrize(
    "path",
    [
        "./absent",
        "../absent",
        "/absent/x",
        "~/absent",
        "~nobody-here/x",
        "a/b/c",
        "a\\b",
        "a b",
        "a--b",
        "x\0y",
        "x" * 5000,
    ],
)
def test_what_looks_like_a_path_is_not_asked_of_the_hub(hub, path):
    with pytest.raises(CheckpointError, match="such a folder or file, and there is none"):
        resolve(path)
    assert hub.asked == []


def test_a_path_object_is_not_asked_of_the_hub(hub):
    with pytest.raises(CheckpointError, match="such a folder or file, and there is none"):
        resolve(Path("owner/name"))
    assert hub.asked == []


RESPONSE = SimpleNamespace(headers={}, request=None, status_code=401)  # of whichever HTTP library the hub's client uses


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            RepositoryNotFoundError("not\nfound", response=RESPONSE),
            "no such model on the hub, unless it is private",
        ),
        (GatedRepoError("gated", response=RESPONSE), "accept them and run `hf auth login`"),
        (LocalEntryNotFoundError("offline\ntraceback"), "run `hf download owner/name` where there is a network"),
        (OSError(28, "No space left on device"), "download failed.*No space left on device"),
        (RuntimeError("proxy\nsays no"), r"download failed.*proxy\\nsays no"),
    ],
)
def test_a_failing_hub_gives_one_line_of_advice(hub, monkeypatch, error, advice):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=advice) as caught:
        resolve("owner/name")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("Received: owner/name")


def run_offline(tmp_path: Path, hub_id: str) -> subprocess.CompletedProcess:
    """Resolves in a process of its own, because huggingface_hub reads the environment when it is imported."""
    code = (
        "import sys\nfrom minialbert_tf import CheckpointError\nfrom minialbert_tf.checkpoints.hub import resolve\n"
        "try: print(resolve(sys.argv[1]))\n"
        "except CheckpointError as error: print('refused:', error)\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, hub_id], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_model_is_found_offline(tmp_path, weights):
    commit = "0123456789" * 4
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for name in ("config.json", weights):
        (snapshot / name).touch()
    assert run_offline(tmp_path, "owner/name").stdout.strip() == str(snapshot)


def test_an_unknown_model_offline_gives_advice(tmp_path):
    output = run_offline(tmp_path, "owner/name").stdout
    assert output.startswith("refused:") and "HF_HUB_OFFLINE" in output and "hf download owner/name" in output
    assert output.count("\n") == 1


def test_huggingface_hub_is_not_imported_for_a_folder(tmp_path):
    code = "import sys; from minialbert_tf.checkpoints.hub import resolve; resolve(sys.argv[1]); print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"huggingface_hub", "numpy", "tensorflow"} & set(run.stdout.split())

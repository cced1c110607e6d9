import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minialbert_tf import weight_cache
from minialbert_tf.export.bundle import read_bundle, write_bundle
from minialbert_tf.litert_runtime import LiteRTRuntime
from minialbert_tf.weight_cache import IN_MEMORY, cache_folder, packed_weights

ROOT = Path(__file__).parents[1]
SEQUENCE = [2, 9, 10, 11, 3]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINIALBERT_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tiny_model, tmp_path):
    path = tmp_path / "tiny.tflite"
    write_bundle(path, **tiny_model.arguments())
    return path


def is_right(model, tiny_model):
    (logits,) = LiteRTRuntime(model).predict([SEQUENCE])
    return np.abs(logits - tiny_model.logits(SEQUENCE)).max() < 1e-5


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_a_second_start_takes_what_the_first_has_packed(folder, model, tiny_model):
    assert is_right(model, tiny_model)
    path = only_file(folder)
    assert path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest())
    assert os.name != "posix" or folder.stat().st_mode & 0o77 == 0
    written = path.stat().st_mtime_ns
    card = read_bundle(model).card
    with packed_weights(card.model_sha256, card.model_bytes) as found:
        assert found == str(path)
    assert is_right(model, tiny_model)
    assert only_file(folder) == path and path.stat().st_mtime_ns >= written


def flip_a_bit(content, eighth):
    """How large the file is depends on the processor, for which XNNPACK packs."""
    at = len(content) * eighth // 8
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: bytes(len(content)),
        *(partial(flip_a_bit, eighth=eighth) for eighth in range(8)),
    ],
)
def test_a_damaged_file_is_packed_anew(folder, model, tiny_model, damage):
    assert is_right(model, tiny_model)
    path = only_file(folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert is_right(model, tiny_model)
    assert only_file(folder).read_bytes() == whole


def test_what_another_model_or_runtime_has_packed_is_not_taken(folder, model, tiny_model, monkeypatch):
    assert is_right(model, tiny_model)
    other = tiny_model.arguments()
    flatbuffer = bytearray(other["flatbuffer"])
    start = flatbuffer.find(tiny_model.matrix.T.tobytes())
    assert start > 0
    flatbuffer[start : start + 4] = np.float32(3).tobytes()
    write_bundle(model, **{**other, "flatbuffer": bytes(flatbuffer)}, force=True)
    (changed,) = LiteRTRuntime(model).predict([SEQUENCE])
    assert np.abs(changed - tiny_model.logits(SEQUENCE)).max() > 1e-2
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(weight_cache.ai_edge_litert, "__version__", "0")
    assert LiteRTRuntime(model).predict([SEQUENCE])[0].shape == changed.shape
    assert len(list(folder.iterdir())) == 3


def test_where_nothing_can_be_written_the_cache_is_in_memory(folder, model, tiny_model, monkeypatch):
    folder.write_text("a file, not a folder")
    with packed_weights("0" * 64, 10) as path:
        assert path == IN_MEMORY
    assert is_right(model, tiny_model)
    monkeypatch.setenv("MINIALBERT_CACHE", "")
    assert cache_folder() is None
    assert is_right(model, tiny_model)


def test_a_folder_that_can_only_be_read_is_used(folder, model, tiny_model, monkeypatch):
    assert is_right(model, tiny_model)

    def refuse(*arguments, **keywords):
        raise PermissionError

    for name in ("utime", "mkdir", "unlink", "replace"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(weight_cache.tempfile, "mkstemp", refuse)
    card = read_bundle(model).card
    with packed_weights(card.model_sha256, card.model_bytes) as path:
        assert path == str(only_file(folder))
    assert is_right(model, tiny_model)
    with packed_weights("0" * 64, 10) as path:  # what it does not hold
        assert path == IN_MEMORY
    only_file(folder).write_bytes(b"damaged")
    assert is_right(model, tiny_model)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits sizes of files by POSIX")
def test_a_full_disk_does_not_end_the_process(folder, model):
    limited = """
import resource, signal, sys
from minialbert_tf.litert_runtime import LiteRTRuntime
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
print(LiteRTRuntime(sys.argv[1]).predict([[2, 9, 3]])[0].shape)
"""
    result = subprocess.run([sys.executable, "-c", limited, str(model)], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "(3, 5)\n"), result.stderr
    assert list(folder.iterdir()) == []


def test_a_failure_to_load_leaves_no_file(folder):
    folder.mkdir()
    with pytest.raises(ZeroDivisionError), packed_weights("0" * 64, 10) as path:
        Path(path).write_bytes(b"half of it")
        raise ZeroDivisionError
    assert list(folder.iterdir()) == []


def test_many_processes_may_start_at_once(folder, model):
    script = """
import sys
from minialbert_tf.litert_runtime import LiteRTRuntime
print(LiteRTRuntime(sys.argv[1]).predict([[2, 9, 3]])[0].tobytes().hex())
"""
    command = [sys.executable, "-c", script, str(model)]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    assert len(set(outputs)) == 1 and outputs[0]
    assert only_file(folder).suffix == ".xnnpack"


def test_the_oldest_files_go(folder):
    folder.mkdir()
    for number in range(10):
        path = folder / f"{number}.xnnpack"
        path.write_bytes(b"")
        os.utime(path, (number, number))
    with packed_weights("0" * 64, 10) as path:
        Path(path).write_bytes(b"packed")
    names = {path.name for path in folder.iterdir()}
    assert len(names) == 8
    assert {f"{number}.xnnpack" for number in range(3, 10)} < names


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "minialbert"),
        ("win32", "LOCALAPPDATA", "minialbert"),
        ("darwin", "HOME", "Library/Caches/minialbert"),
    ],
)
def test_the_default_folder_is_among_the_users_caches(monkeypatch, tmp_path, platform, variable, expected):
    monkeypatch.delenv("MINIALBERT_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == tmp_path / expected

import json
import random
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from torch_writer import SIX, Global, dump, legacy_pickles, storage, tensor, write_legacy, write_zip

from minialbert_tf.checkpoints.reader import find_weights, read_tensors, write_safetensors
from minialbert_tf.errors import CheckpointError, InputError

GOLDEN = Path(__file__).parent.parent / "golden"
FIXTURES = Path(__file__).parent / "fixtures"
ZIP = GOLDEN / "token_fp16" / "pytorch_model.bin"
LEGACY = GOLDEN / "token_legacy_pickle" / "pytorch_model.bin"
SAFETENSORS = GOLDEN / "token_no_adapters" / "model.safetensors"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(f"Received: {path}")
    return message


# Files written by PyTorch


def fixture_tensors() -> dict[str, np.ndarray]:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    thirds = np.arange(-8, 8).astype(np.float32) / np.float32(3)
    # Rounding to bfloat16: half up of the magnitude is enough, as no third is half way between two.
    bfloat16 = (thirds.view(np.uint32) + 0x8000 & 0xFFFF0000).astype(np.uint32).view(np.float32)
    tensors = {
        "whole": base,
        "transposed": base.T,
        "columns": base[1:, ::2],
        "row": base[2],
        "bfloat16": bfloat16,
        "bfloat16_columns": bfloat16.reshape(4, 4)[:, 1:3],
        "parameter": np.arange(3, dtype=np.float32),
        "scalar": np.array(2.5, np.float32),
        "empty": np.empty((0, 4), np.float32),
        "one_row": np.arange(5)[None],
        "boolean": np.array([True, False, True]),
    }
    for name in ("float16", "float64", "int64", "int32", "int16", "int8", "uint8"):
        tensors[name] = np.arange(5).astype(name)
    return tensors


@pytest.mark.parametrize("name", ["zip_protocol2.bin", "zip_protocol5.bin", "legacy.bin"])
def test_what_torch_wrote(name):
    tensors, expected = read_tensors(FIXTURES / name), fixture_tensors()
    assert list(tensors) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(tensors[key], array, strict=True)
    assert np.shares_memory(tensors["whole"], tensors["columns"])


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("**/*.bin")) + sorted(GOLDEN.glob("**/*.safetensors")), ids=str)
def test_golden_checkpoints_have_the_shapes_of_their_config(path):
    config = json.loads((path.parent / "config.json").read_text())
    tensors = read_tensors(path)
    words = next(array for name, array in tensors.items() if name.endswith("word_embeddings.weight"))
    width = config.get("embedding_size", config["hidden_size"])
    assert words.shape == (config["vocab_size"], width)
    assert words.dtype == (np.float16 if "fp16" in str(path) else np.float32)
    assert all(np.isfinite(array).all() and array.size for array in tensors.values())
    assert 0.005 < words.std() < 2


def test_content_counts_and_not_the_extension(tmp_path):
    for source in (ZIP, LEGACY, SAFETENSORS):
        disguised = tmp_path / "weights.txt"
        disguised.write_bytes(source.read_bytes())
        assert list(read_tensors(disguised)) == list(read_tensors(source))


def test_neither_torch_nor_tensorflow_is_imported():
    code = (
        "import sys; from minialbert_tf.checkpoints.reader import read_tensors; read_tensors(sys.argv[1]);"
        "print(*{'torch', 'tensorflow', 'huggingface_hub', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(ZIP)], capture_output=True, text=True, check=True, cwd=GOLDEN.parents[1]
    )
    assert run.stdout.strip() == ""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's memory figures")
@pytest.mark.parametrize("kind", ["FloatStorage", "BFloat16Storage"])
@pytest.mark.parametrize("write", ["zip", "legacy"])
def test_peak_memory_is_at_most_two_and_a_half_times_the_file(tmp_path, write, kind):
    width = 4 if kind == "FloatStorage" else 2
    numel = 70_000_000 // 7 // width
    content = {f"t{i}": tensor(storage(kind, str(i), numel), 0, (numel,), (1,)) for i in range(7)}
    raw = np.ones(numel * width, np.uint8).tobytes()
    path = tmp_path / "w.bin"
    if write == "zip":
        write_zip(path, content, {str(i): raw for i in range(7)})
    else:
        write_legacy(path, legacy_pickles(content, map(str, range(7))), ((numel, raw),) * 7)
    code = """if True:
        import re, sys
        from pathlib import Path
        from minialbert_tf.checkpoints.reader import read_tensors
        def kilobytes(field):  # ru_maxrss would count the parent before exec
            return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        before = kilobytes("VmRSS")
        tensors = read_tensors(sys.argv[1])
        print(1024 * (kilobytes("VmHWM") - before) / Path(sys.argv[1]).stat().st_size)
    """
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=GOLDEN.parents[1]
    )
    result = 1 if kind == "FloatStorage" else 2
    assert 0.9 * result < float(run.stdout) < 2.5


# safetensors


def write_header(path: Path, header: dict, body: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("F16", np.array([1.5, -2], "<f2"), np.array([1.5, -2], np.float16)),
        ("F64", np.array([0.1, -2], "<f8"), np.array([0.1, -2], np.float64)),
        ("I64", np.array([2**62, -2], "<i8"), np.array([2**62, -2], np.int64)),
        ("U8", np.array([255, 2], "u1"), np.array([255, 2], np.uint8)),
        ("BOOL", np.array([0, 1], "u1"), np.array([False, True])),
        ("BF16", np.array([0x3FC0, 0xC000], "<u2"), np.array([1.5, -2], np.float32)),
    ],
)
def test_safetensors_types(tmp_path, kind, raw, expected):
    header = {"a": {"dtype": kind, "shape": [2], "data_offsets": [0, raw.nbytes]}}
    array = read_tensors(write_header(tmp_path / "m.safetensors", header, raw.tobytes()))["a"]
    np.testing.assert_array_equal(array, expected, strict=True)


def test_unknown_safetensors_types_are_refused_by_name(tmp_path):
    header = {"a\n": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    assert r"'a\n' is F8_E4M3" in refusal(write_header(tmp_path / "m.safetensors", header, b"\0\0"))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**40]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1] * 70 + [2], "data_offsets": [0, 8]},
        {"dtype": "\n", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32"},
        [],
    ],
)
def test_safetensors_headers_that_lie_are_refused(tmp_path, entry):
    assert "damaged" in refusal(write_header(tmp_path / "m.safetensors", {"a": entry}, bytes(8)))


@pytest.mark.parametrize("keep", [9, 20, 5_000, -1])
def test_truncated_safetensors_are_refused(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    path.write_bytes(SAFETENSORS.read_bytes()[:keep])
    assert "damaged" in refusal(path)


# Files that are something else


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"\r\n  <html>", "web page"),
        (b"Not Found", "no known format"),
        (b"{}", "no known format"),
        (bytes(1000), "no known format"),
        (b"PK\x03\x04", "damaged or cut off"),
        (b"\x80", "cut off"),
        (b"\x80\x02K\x01.", "magic number"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "no known format"),
        (dump(Global("os", "system")), "'os.system'"),
    ],
)
def test_other_files_are_named_and_refused(tmp_path, content, rule):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    assert rule in refusal(path)


def test_tar_files_are_refused(tmp_path):
    path = tmp_path / "w.bin"
    with tarfile.open(path, "w") as archive:
        archive.add(SAFETENSORS.parent / "config.json", "pickle")
    assert "tar archive" in refusal(path)


def test_folders_and_absent_files_are_refused(tmp_path):
    assert "existing file" in refusal(tmp_path)
    assert "existing file" in refusal(tmp_path / "absent.bin")


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    def deny(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert "Permission denied" in refusal(LEGACY)


@pytest.mark.parametrize(
    "source", [ZIP, LEGACY, SAFETENSORS, FIXTURES / "zip_protocol5.bin"], ids=lambda path: path.name
)
def test_damage_is_refused_or_harmless(tmp_path, source):
    """Truncated, overwritten and spliced files give a CheckpointError or arrays of the right names and shapes."""
    rng = random.Random(0)
    original = source.read_bytes()
    names = set(read_tensors(source))
    path = tmp_path / "w.bin"
    refused = 0
    for round_ in range(300):
        data = bytearray(original)
        if round_ % 3 == 0:
            del data[rng.randrange(len(data)) :]
        for _ in range(round_ % 4):
            # The description is at one end of the file; that is where damage is interesting.
            near = rng.choice([rng.randrange(len(data) or 1), rng.randrange(2000), -rng.randrange(1, 2000)])
            if -len(data) <= near < len(data):
                data[near] = rng.randrange(256)
        if round_ % 5 == 0 and len(data) > 100:
            at = rng.randrange(len(data) - 50)
            data[at : at + rng.randrange(50)] = data[:: len(data) // 20][: rng.randrange(20)]
        path.write_bytes(data)
        try:
            tensors = read_tensors(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert len(tensors) <= len(names)
            assert all(isinstance(name, str) and isinstance(array, np.ndarray) for name, array in tensors.items())
            assert sum(array.size for array in tensors.values()) <= 2 * len(original)
    assert 100 < refused < 300


# Finding weights


def test_safetensors_come_first(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    assert find_weights(tmp_path) == tmp_path / "pytorch_model.bin"
    (tmp_path / "model.safetensors.index.json").touch()
    assert find_weights(tmp_path) == tmp_path / "pytorch_model.bin"
    (tmp_path / "model.safetensors").touch()
    assert find_weights(tmp_path) == tmp_path / "model.safetensors"


def test_a_file_is_its_own_weights(tmp_path):
    file = tmp_path / "any.name"
    file.touch()
    assert find_weights(file) == file
    assert find_weights(str(file)) == file


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_shards_are_refused(tmp_path, name):
    (tmp_path / name).write_text("{}")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(CheckpointError, match="Sharded checkpoints are not supported; merge") as caught:
            find_weights(path)
        assert str(caught.value).endswith(str(tmp_path / name))


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=r"must hold model\.safetensors or pytorch_model\.bin"):
            find_weights(path)


# Writing


def test_views_are_written_as_the_values_they_show(tmp_path):
    tensors = fixture_tensors()
    assert not tensors["transposed"].flags["C_CONTIGUOUS"] and not tensors["columns"].flags["C_CONTIGUOUS"]
    path = tmp_path / "new" / "model.safetensors"
    write_safetensors(path, tensors)
    back = read_tensors(path)
    assert set(back) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(back[name], array, strict=True)
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": np.zeros(2)})
    with pytest.raises(InputError, match="must not exist"):
        write_safetensors(path, {"a": np.ones(2)})
    np.testing.assert_array_equal(read_tensors(path)["a"], [0, 0])
    write_safetensors(path, {"a": np.ones(2)}, force=True)
    np.testing.assert_array_equal(read_tensors(path)["a"], [1, 1])


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["text"]), np.zeros(2, np.complex128)])
def test_other_types_are_refused_and_the_old_file_stays(tmp_path, array):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_safetensors(path, {"a": array}, force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reading_a_file_and_writing_over_it(tmp_path):
    path = write_zip(tmp_path / "w", {"a": tensor()}, {"0": SIX})
    tensors = read_tensors(path)
    write_safetensors(path, tensors, force=True)
    np.testing.assert_array_equal(tensors["a"], read_tensors(path)["a"])


def test_a_file_can_be_read_by_whom_the_umask_lets(tmp_path):
    write_safetensors(tmp_path / "weights.safetensors", {"a": np.zeros(2, np.float32)})
    (tmp_path / "other").touch()
    assert (tmp_path / "weights.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode

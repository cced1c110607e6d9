import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_writer import (
    MAGIC,
    SIX,
    Call,
    Global,
    dump,
    encode,
    legacy_pickles,
    storage,
    tensor,
    write_legacy,
    write_zip,
)

from minialbert_tf.checkpoints.pickles import MAX_DESCRIPTION
from minialbert_tf.checkpoints.torch_files import read_legacy, read_zip
from minialbert_tf.errors import CheckpointError

EXPECTED = np.arange(6, dtype=np.float32).reshape(2, 3)
SYSTEM = Global("os", "system")


def refusal(read, path, at_most=10 * MAX_DESCRIPTION) -> str:
    """Reads a file that must be refused without taking much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < at_most
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Both formats


@pytest.fixture(params=["zip", "legacy"])
def write_and_read(request, tmp_path):
    """Writes a content with one storage of six floats, and reads it."""

    def run(content):
        if request.param == "zip":
            return read_zip(write_zip(tmp_path / "w.bin", content))
        return read_legacy(write_legacy(tmp_path / "w.bin", legacy_pickles(content)))

    return run


def test_tensors_keep_order_values_and_type(write_and_read):
    arrays = write_and_read({"b": tensor(), "a": tensor(shape=(6,), strides=(1,))})
    assert list(arrays) == ["b", "a"]
    assert arrays["b"].dtype == np.float32
    np.testing.assert_array_equal(arrays["b"], EXPECTED)
    np.testing.assert_array_equal(arrays["a"], EXPECTED.ravel())


def test_a_lone_state_dict_entry_is_opened(write_and_read):
    np.testing.assert_array_equal(write_and_read({"state_dict": {"a": tensor()}})["a"], EXPECTED)


def test_a_state_dict_beside_other_entries_is_refused(write_and_read):
    with pytest.raises(CheckpointError, match="'state_dict' is a dict"):
        write_and_read({"state_dict": {"a": tensor()}, "epoch": 1})


def test_tensors_of_one_storage_share_memory(write_and_read):
    arrays = write_and_read({"a": tensor(), "b": tensor(offset=3, shape=(3,), strides=(1,))})
    assert np.shares_memory(arrays["a"], arrays["b"])


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (3, 2), (1, 3), EXPECTED.T),
        (1, (2, 2), (3, 1), EXPECTED[:, 1:]),
        (0, (2, 2), (3, 2), EXPECTED[:, ::2]),
        (5, (), (), np.float32(5)),
        (4, (1, 1), (99, 0), [[4]]),
        (2, (4,), (0,), [2, 2, 2, 2]),
        (0, (0, 4), (0, 0), np.empty((0, 4))),
        (6, (0,), (1,), []),
    ],
)
def test_strided_views_inside_the_storage(write_and_read, offset, shape, strides, expected):
    np.testing.assert_array_equal(
        write_and_read({"a": tensor(None, offset, shape, strides)})["a"], expected, strict=False
    )


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (2, 3), (3, 1)),
        (6, (1,), (1,)),
        (0, (7,), (1,)),
        (0, (2, 3), (4, 1)),
        (0, (2, 2), (2**62, 1)),
        (2**62, (1,), (1,)),
        (0, (7,), (0,)),
        (0, (2**40,), (0,)),  # an expanded view of terabytes
        (0, (2**32, 2**32), (0, 0)),  # 2**64 elements: zero where 64 bits are counted
        (0, (0, 2**62, 2**62), (0, 0, 0)),
        (0, (1, 6), (2**63 - 1, 1)),  # a stride whose bytes exceed 64 bits
    ],
)
def test_views_outside_the_storage_are_refused(write_and_read, offset, shape, strides):
    with pytest.raises(CheckpointError, match="'name'"):
        write_and_read({"name": tensor(None, offset, shape, strides)})


@pytest.mark.parametrize(
    "value", [1, "text", None, [tensor()], {"inner": tensor()}, storage(), Global("torch", "FloatStorage")]
)
def test_entries_that_are_no_tensors_are_refused_by_name(write_and_read, value):
    with pytest.raises(CheckpointError, match="'epoch'"):
        write_and_read({"a": tensor(), "epoch": value})


@pytest.mark.parametrize("content", [[tensor()], tensor(), None, {"state_dict": tensor(), "epoch": 1}])
def test_other_contents_are_refused(write_and_read, content):
    with pytest.raises(CheckpointError, match=r"state dict|Entries"):
        write_and_read(content)


def test_a_storage_has_one_type(write_and_read):
    with pytest.raises(CheckpointError, match="one type"):
        write_and_read({"a": tensor(), "b": tensor(storage("IntStorage"))})


def test_names_are_quoted(write_and_read):
    with pytest.raises(CheckpointError, match=r"'\\x1b\[2J\\n'"):
        write_and_read({"\x1b[2J\n": 1})


# Element types


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("HalfStorage", np.array([1.5, -2], "<f2"), np.array([1.5, -2], np.float16)),
        ("DoubleStorage", np.array([0.1, -2], "<f8"), np.array([0.1, -2], np.float64)),
        ("LongStorage", np.array([2**62, -2], "<i8"), np.array([2**62, -2], np.int64)),
        ("IntStorage", np.array([2**30, -2], "<i4"), np.array([2**30, -2], np.int32)),
        ("ShortStorage", np.array([2**14, -2], "<i2"), np.array([2**14, -2], np.int16)),
        ("CharStorage", np.array([127, -2], "i1"), np.array([127, -2], np.int8)),
        ("ByteStorage", np.array([255, 2], "u1"), np.array([255, 2], np.uint8)),
        ("BoolStorage", np.array([0, 7], "u1"), np.array([False, True])),
        ("BFloat16Storage", np.array([0x3FC0, 0xC000], "<u2"), np.array([1.5, -2], np.float32)),
    ],
)
def test_element_types(tmp_path, kind, raw, expected):
    content = {"a": tensor(storage(kind, "0", 2), 0, (2,), (1,))}
    arrays = read_zip(write_zip(tmp_path / "w.bin", content, {"0": raw.tobytes()}))
    np.testing.assert_array_equal(arrays["a"], expected, strict=True)
    if expected.dtype == bool:
        assert arrays["a"].tobytes() == b"\0\1"


def test_bfloat16_is_exact_for_every_pattern(tmp_path):
    patterns = np.arange(2**16, dtype="<u2")
    content = {"a": tensor(storage("BFloat16Storage", "0", 2**16), 0, (2**16,), (1,))}
    array = read_zip(write_zip(tmp_path / "w.bin", content, {"0": patterns.tobytes()}))["a"]
    np.testing.assert_array_equal(array.view(np.uint32), patterns.astype(np.uint32) << 16)


# zip


@pytest.mark.parametrize("root", ["archive", "pytorch_model", "x/y"])
def test_the_root_folder_may_have_any_name(tmp_path, root):
    np.testing.assert_array_equal(read_zip(write_zip(tmp_path / "w.bin", {"a": tensor()}, root=root))["a"], EXPECTED)


def test_a_missing_byteorder_means_little(tmp_path):
    np.testing.assert_array_equal(read_zip(write_zip(tmp_path / "w.bin", {"a": tensor()}, others={}))["a"], EXPECTED)


@pytest.mark.parametrize("order", [b"big", b"", b"LITTLE", bytes(20 * MAX_DESCRIPTION)], ids=len)
def test_other_byte_orders_are_refused(tmp_path, order):
    path = write_zip(tmp_path / "w.bin", {"a": tensor()}, others={"byteorder": order})
    assert "little-endian" in refusal(read_zip, path)


@pytest.mark.parametrize("raw", [SIX[:-1], SIX + b"\0", b"", SIX * 2])
def test_a_storage_whose_size_lies_is_refused(tmp_path, raw):
    assert "'0' must have 24 bytes" in refusal(read_zip, write_zip(tmp_path / "w.bin", {"a": tensor()}, {"0": raw}))


@pytest.mark.parametrize("numel", [2**40, 2**63, 2**200])
def test_a_storage_that_claims_terabytes_is_refused_without_taking_them(tmp_path, numel):
    content = {"a": tensor(storage(numel=numel))}
    assert "must have" in refusal(read_zip, write_zip(tmp_path / "w.bin", content))
    assert "must have" in refusal(read_legacy, write_legacy(tmp_path / "l.bin", legacy_pickles(content), ((6, SIX),)))


@pytest.mark.parametrize("key", ["1", "../data/0", "/data/0", "0\0", ""])
def test_a_storage_that_is_absent_is_refused(tmp_path, key):
    path = write_zip(tmp_path / "w.bin", {"a": tensor(storage(key=key))})
    assert "must be in the file" in refusal(read_zip, path)


def test_a_compressed_bomb_is_refused(tmp_path):
    numel = 2**26
    content = {"a": tensor(storage(numel=numel), 0, (numel,), (1,))}
    path = write_zip(tmp_path / "w.bin", content, {"0": bytes(4 * numel)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 4 * numel // 100
    assert "uncompressed" in refusal(read_zip, path)


def _directory(path, *changes):
    """Overwrites fields of central directory entries: (entry name, offset of the field, bytes)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    for name, offset, value in changes:
        at = data.rindex(b"PK\x01\x02", start, data.index(name, start))
        data[at + offset : at + offset + len(value)] = value
    path.write_bytes(data)
    return path


def test_overlapping_entries_are_refused(tmp_path):
    content = {"a": tensor(), "b": tensor(storage(key="1"))}
    path = write_zip(tmp_path / "w.bin", content, {"0": SIX, "1": SIX})
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("archive/data/0").header_offset
    _directory(path, (b"archive/data/1", 42, struct.pack("<I", offset)))
    assert "overlap" in refusal(read_zip, path)


@pytest.mark.parametrize("size", [2**20, 2**31, 2**32 - 2])
def test_sizes_beyond_the_file_are_refused(tmp_path, size):
    path = write_zip(tmp_path / "w.bin", {"a": tensor(storage(numel=size // 4))})
    _directory(path, (b"archive/data/0", 20, struct.pack("<II", size, size)))
    assert "exceed the file" in refusal(read_zip, path)


def test_a_compressed_entry_is_refused_even_at_ratio_one(tmp_path):
    path = write_zip(tmp_path / "w.bin", {"a": tensor()})
    _directory(path, (b"archive/data/0", 10, struct.pack("<H", zipfile.ZIP_DEFLATED)))
    assert "uncompressed" in refusal(read_zip, path)


def test_a_stored_entry_has_one_size(tmp_path):
    path = write_zip(tmp_path / "w.bin", {"a": tensor()})
    _directory(path, (b"archive/data/0", 24, struct.pack("<I", 2**31)))
    assert "uncompressed" in refusal(read_zip, path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_occurs_once(tmp_path):
    path = write_zip(tmp_path / "w.bin", {"a": tensor()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", SIX)
    assert "names" in refusal(read_zip, path)


def test_changed_values_are_noticed(tmp_path):
    path = write_zip(tmp_path / "w.bin", {"a": tensor()})
    path.write_bytes(path.read_bytes().replace(SIX, SIX[:-1] + b"\x01"))
    assert "CRC" in refusal(read_zip, path)


@pytest.mark.parametrize("bits", [1, 0x40, 0x20])
def test_encrypted_and_patched_entries_are_refused(tmp_path, bits):
    path = write_zip(tmp_path / "w.bin", {"a": tensor()})
    _directory(path, (b"archive/data/0", 8, struct.pack("<H", bits)))
    assert "damaged" in refusal(read_zip, path)


def test_archives_without_one_data_pkl_are_refused(tmp_path):
    path = tmp_path / "w.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    assert "data.pkl" in refusal(read_zip, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", dump({}))
        archive.writestr("b/data.pkl", dump({}))
    assert "data.pkl" in refusal(read_zip, path)


def test_a_huge_description_is_refused_before_it_is_read(tmp_path):
    path = write_zip(tmp_path / "w.bin", b"\x80\x02" + b"]" * (50 * MAX_DESCRIPTION) + b".")
    assert "data.pkl must not exceed" in refusal(read_zip, path)


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "w.bin"
    entry = (
        struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0) + b"name"
    )
    directory = entry * 400_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 0, 0)
    path.write_bytes(directory + end)
    assert "directory" in refusal(read_zip, path)


def test_a_pickle_of_zip_format_that_asks_for_code_is_refused(tmp_path):
    path = write_zip(tmp_path / "w.bin", {"a": tensor(), "b": Call(SYSTEM, ("true",))})
    assert "'os.system'" in refusal(read_zip, path)


# The format before torch 1.6


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("program", [encode(SYSTEM), b"(" + encode("true") + b"ios\nsystem\n"])
def test_each_of_the_pickles_is_restricted(tmp_path, position, program):
    pickles = legacy_pickles({"a": tensor()})
    pickles[position] = b"\x80\x02" + program + b"."
    assert "'os.system'" in refusal(read_legacy, write_legacy(tmp_path / "l.bin", pickles))


@pytest.mark.parametrize(
    ("position", "value", "rule"),
    [
        (0, MAGIC + 1, "magic number"),
        (0, None, "magic number"),
        (1, 1000, "protocol version"),
        (1, [1001], "protocol version"),
        (2, {"little_endian": False}, "little-endian"),
        (2, {}, "little-endian"),
        (2, 1, "little-endian"),
        (4, "0", "list the keys"),
        (4, [0], "list the keys"),
        (4, [], "those that its tensors use"),
        (4, ["1"], "those that its tensors use"),
        (4, ["0", "0"], "those that its tensors use"),
    ],
)
def test_the_pickles_around_a_state_dict_are_checked(tmp_path, position, value, rule):
    pickles = legacy_pickles({"a": tensor()})
    pickles[position] = dump(value)
    assert rule in refusal(read_legacy, write_legacy(tmp_path / "l.bin", pickles))


def test_storages_come_in_the_listed_order(tmp_path):
    content = {"a": tensor(), "b": tensor(storage("LongStorage", "1", 2), 0, (2,), (1,))}
    longs = np.array([7, 8], "<i8")
    path = write_legacy(tmp_path / "l.bin", legacy_pickles(content, ["1", "0"]), ((2, longs.tobytes()), (6, SIX)))
    arrays = read_legacy(path)
    np.testing.assert_array_equal(arrays["a"], EXPECTED)
    np.testing.assert_array_equal(arrays["b"], longs)


def test_views_of_a_storage_start_inside_it(tmp_path):
    view = storage("FloatStorage", "0", 6, ("17", 2, 3))
    path = write_legacy(tmp_path / "l.bin", legacy_pickles({"a": tensor(view, 1, (2,), (1,))}))
    np.testing.assert_array_equal(read_legacy(path)["a"], [3, 4])
    write_legacy(path, legacy_pickles({"a": tensor(view, 2, (2,), (1,))}))
    assert "storage of 3 elements" in refusal(read_legacy, path)


@pytest.mark.parametrize("header", [(5, SIX), (7, SIX), (-1, SIX), (2**62, SIX), (6, SIX[:-1]), (6, b"")])
def test_a_legacy_storage_whose_size_lies_is_refused(tmp_path, header):
    path = write_legacy(tmp_path / "l.bin", legacy_pickles({"a": tensor()}), (header,))
    assert "'0' must have 6 elements" in refusal(read_legacy, path)


def test_a_legacy_file_without_storages_is_refused(tmp_path):
    assert "'0' must have" in refusal(
        read_legacy, write_legacy(tmp_path / "l.bin", legacy_pickles({"a": tensor()}), ())
    )


def test_an_endless_legacy_description_is_refused(tmp_path):
    path = tmp_path / "l.bin"
    path.write_bytes(b"".join(legacy_pickles({})[:3]) + b"\x80\x02" + b"]" * (20 * MAX_DESCRIPTION))
    refusal(read_legacy, path, at_most=150 * MAX_DESCRIPTION)

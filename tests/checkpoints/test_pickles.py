import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
from torch_writer import (
    EMPTY_HOOKS,
    ORDERED_DICT,
    Call,
    Global,
    Persistent,
    Raw,
    dump,
    encode,
    integer,
    storage,
    tensor,
    text,
)

from minialbert_tf.checkpoints import pickles
from minialbert_tf.checkpoints.pickles import Storage, Tensor
from minialbert_tf.errors import CheckpointError

TENSOR = Tensor(Storage("0", "float32", 6, 0, 6), 0, (2, 3), (3, 1))
SYSTEM = Global("os", "system")


class Hostile:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def refusal(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        pickles.load(data)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    return message


# What torch.save writes


def test_a_state_dict_with_metadata_is_rebuilt():
    content = {"a": tensor(), "b": Call(Global("torch._utils", "_rebuild_parameter"), (tensor(), True, EMPTY_HOOKS))}
    metadata = {"_metadata": Call(ORDERED_DICT, ())}
    program = encode(EMPTY_HOOKS) + b"(" + b"".join(encode(k) + encode(v) for k, v in content.items()) + b"u"
    loaded, end = pickles.load(b"\x80\x02" + program + encode(metadata) + b"b.rest")
    assert loaded == {"a": TENSOR, "b": TENSOR}
    assert list(loaded) == ["a", "b"]
    assert end == len(program) + len(encode(metadata)) + 4


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"short": {"little_endian": True, "n": 1001}, "none": None, "tuple": (1, (2,), (), (1, 2, 3, 4)), "list": [1]},
        [0, 255, 256, 65536, -1, 2**31, -(2**63), 2**80],
        ["a" * 300, "é\n"],
        2.5,
    ],
)
def test_plain_values_of_every_protocol_equal_the_standard_librarys(value, protocol):
    data = pickle.dumps(value, protocol)
    assert pickles.load(data) == (value, len(data))


def test_the_second_pickle_of_a_file_is_found_by_its_start():
    first = dump("one")
    assert pickles.load(first + dump("two"), len(first))[0] == "two"


def test_memoised_values_are_shared():
    loaded, _ = pickles.load(b"\x80\x02]q\x00h\x00\x86.")
    assert loaded[0] is loaded[1]


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (storage(), Storage("0", "float32", 6, 0, 6)),
        (storage("FloatStorage", "0", 6, None), Storage("0", "float32", 6, 0, 6)),
        (storage("BFloat16Storage", "0", 6, ("17", 2, 3)), Storage("0", "bfloat16", 6, 2, 3)),
    ],
)
def test_storages_may_be_views(identifier, expected):
    assert pickles.load(dump(identifier))[0] == expected


# What an attacker writes


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": x}, lambda x: OrderedDict(a=[(x,)])])
def test_code_is_refused_by_name_and_does_not_run(tmp_path, protocol, wrap):
    canary = tmp_path / "canary"
    data = pickle.dumps(wrap(Hostile(f"touch {canary}")), protocol)
    assert f"'{os.system.__module__}.system'" in refusal(data)
    assert not canary.exists()
    pickle.loads(data)  # the control: this attack works
    assert canary.exists()


@pytest.mark.parametrize(
    "program",
    [
        encode(SYSTEM),
        encode("os") + encode("system") + b"\x93",  # STACK_GLOBAL
        b"\x8c\x02os\x8c\x06system\x93",
        b"(" + encode("true") + b"ios\nsystem\n",  # INST
        encode({"a": {"b": [SYSTEM]}}),
        encode(Persistent(SYSTEM)),
        encode(Persistent(("storage", SYSTEM, "0", "cpu", 6))),
        encode(tensor(Persistent(("storage", Global("torch", "FloatStorage"), SYSTEM, "cpu", 6)))),
        encode(tensor(metadata=(SYSTEM,))),
        encode(Call(ORDERED_DICT, ([("a", SYSTEM)],))),
        encode(EMPTY_HOOKS) + encode({"_metadata": SYSTEM}) + b"b",
    ],
)
def test_a_global_is_refused_by_name_wherever_it_stands(program):
    assert "'os.system'" in refusal(b"\x80\x04" + program + b".")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch.FloatStorage", "__class__"),
        ("collections", "OrderedDict.__init__"),
        ("minialbert_tf.checkpoints.pickles", "_Machine"),
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("__main__", "Model"),
    ],
)
def test_only_the_listed_globals_exist(module, name):
    assert repr(f"{module}.{name}") in refusal(dump(Global(module, name)))


@pytest.mark.parametrize("code", [b"1", b"0", b"2", b"d", b"l", b"o", b"P", b"I", b"F", b"V", b"S", b"T", b"U", b"B"])
def test_instructions_that_no_state_dict_needs_are_refused(code):
    assert f"instruction {code!r}" in refusal(b"\x80\x02((" + code + b"0\n.")


@pytest.mark.parametrize(
    "code",
    [b"\x81", b"\x82\x01", b"\x83\x01\0", b"\x84\x01\0\0\0", b"\x8b", b"\x8d", b"\x8e", b"\x8f", b"\x92", b"\x97"],
)
def test_newer_instructions_that_no_state_dict_needs_are_refused(code):
    assert f"instruction {code[:1]!r}" in refusal(b"\x80\x04" + encode(ORDERED_DICT) + encode(()) + code + b".")


@pytest.mark.parametrize(
    "program",
    [
        encode(Call(Global("torch", "FloatStorage"), (3,))),
        encode(Call("text", ())),
        encode(Call(ORDERED_DICT, [])),
        encode(Call(storage(), ())),
        encode(tensor()) + encode({"__class__": 1}) + b"b",  # BUILD on a tensor
        encode(Global("torch", "FloatStorage")) + encode({"dtype": "O"}) + b"b",
        encode(ORDERED_DICT) + encode({"a": 1}) + b"b",
        encode(tensor()) + encode(1) + b"a",  # APPEND to a tensor
        encode(()) + encode("a") + encode(1) + b"s",
        encode("os") + encode(1) + b"\x93",
        encode({("a", "b"): 1}),
        encode({2**61 - 1: 1}),
        b"}(" + encode("a") + b"u",
    ],
)
def test_calls_and_changes_of_anything_else_are_refused(program):
    refusal(b"\x80\x04" + program + b".")


@pytest.mark.parametrize(
    "identifier",
    [
        "0",
        ("module", Global("torch", "FloatStorage"), "0", "cpu", 6),
        ("storage", "FloatStorage", "0", "cpu", 6),
        ("storage", Global("torch", "FloatStorage"), 0, "cpu", 6),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6.0),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", -1),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu"),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6, None, None),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6, ("v", 4, 3)),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6, ("v", -1, 3)),
    ],
)
def test_persistent_ids_must_be_storages(identifier):
    refusal(dump(Persistent(identifier)))


@pytest.mark.parametrize(
    "bad",
    [
        tensor(offset=-1),
        tensor(offset=True),
        tensor(shape=(2, -3)),
        tensor(strides=(3, -1)),
        tensor(shape=(2, 3, 1)),
        tensor(shape=[2, 3]),
        tensor(shape=(2, 3.0)),
        tensor(shape=(2**63, 1)),
        tensor(shape=(1,) * 9, strides=(1,) * 9),
        tensor(of="0"),
        tensor(of=Global("torch", "FloatStorage")),
        tensor(metadata=({"neg": True},)),
        tensor(metadata=({}, 1)),
        Call(Global("torch._utils", "_rebuild_tensor_v2"), ()),
        Call(Global("torch._utils", "_rebuild_parameter"), (storage(), True, EMPTY_HOOKS)),
        Call(Global("torch._utils", "_rebuild_parameter"), ()),
        Call(Global("torch._utils", "_rebuild_parameter"), (tensor(), True, EMPTY_HOOKS, {})),
        Call(ORDERED_DICT, ([],)),
    ],
)
def test_builders_check_their_arguments(bad):
    refusal(dump(bad))


def test_metadata_that_says_nothing_is_accepted():
    assert pickles.load(dump(tensor(metadata=(None,))))[0] == TENSOR


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02X\xff\xff\xff\xffabc.",  # a text of 4 GB
        b"\x80\x02\x8a\xff\x01.",
        b"\x80\x02X\x02\0\0\0\xff\xff.",  # no UTF-8
        b"\x80\x02X\x03\0\0\0\xed\xa0\x80.",  # half a surrogate pair
        b"\x80\x02cos",
        b"\x80\x02cos\nsystem",
        b"\x80\x02h\x07.",
        b"\x80\x02q\x00.",
        b"\x80\x02t.",
        b"\x80\x02R.",
        b"\x80\x02NR.",
        b"\x80\x02Q.",
        b"\x80\x02b.",
        b"\x80\x02}s.",
        b"\x80\x02}b.",
        b"\x80\x02(e.",
        b"\x80\x02\x87.",
        b"\x80\x04\x93.",
        b"\x80\x04\x94.",
        b"\x80\x02((((((((",
    ],
)
def test_damaged_pickles_are_refused(data):
    refusal(data)


def test_a_huge_memo_index_costs_nothing():
    assert pickles.load(b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xff.")[0] is None


@pytest.mark.parametrize(
    "nest", [b"]" * 100_000 + b"a" * 99_999, b"N" + b"\x85" * 100_000, b"(" * 100_000 + b"t" * 100_000]
)
def test_deep_nesting_neither_crashes_nor_counts_as_a_name(nest):
    pickles.load(b"\x80\x02" + nest + b".")
    refusal(b"\x80\x02}" + nest + b"Ns.")
    refusal(b"\x80\x02" + nest + b"Q.")
    refusal(b"\x80\x04" + nest + text("name") + b"\x93.")
    refusal(b"\x80\x02" + nest + encode(()) + b"R.")
    refusal(b"\x80\x02" + encode(ORDERED_DICT) + nest + b"R.")


def test_references_that_double_thirty_times_are_not_followed():
    double = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    refusal(b"\x80\x02]q\x00" + double + b"Q.")


def test_a_list_that_holds_itself_is_harmless():
    loaded, _ = pickles.load(b"\x80\x02]q\x00h\x00a.")
    assert loaded[0] is loaded


def test_long_and_unprintable_names_stay_one_short_line():
    assert "\\x1b" in refusal(b"\x80\x02" + text("\x1b[2J\n" * 50_000) + text("x") + b"\x93.")
    refusal(dump(tensor(of=storage(key="\n" * 50_000), offset=-1)))


def test_numbers_of_the_largest_width_are_only_numbers():
    loaded, _ = pickles.load(b"\x80\x02" + integer(2**1000) + b".")
    assert loaded == 2**1000
    refusal(dump(tensor(shape=(2**1000, 3))))


def test_nothing_is_imported(tmp_path: Path, monkeypatch):
    module = tmp_path / "imported_by_a_pickle.py"
    module.write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    refusal(dump(Global("imported_by_a_pickle", "anything")))
    refusal(b"\x80\x02" + encode(Raw(b"cimported_by_a_pickle\nanything\n")) + struct.pack("<b", 46))


@pytest.mark.parametrize("protocol", [2, 5])
def test_random_damage_is_refused_or_gives_plain_values(protocol):
    with zipfile.ZipFile(Path(__file__).parent / "fixtures" / f"zip_protocol{protocol}.bin") as archive:
        original = archive.read(f"zip_protocol{protocol}/data.pkl")
    rng = random.Random(protocol)
    refused = 0
    for _ in range(2000):
        data = bytearray(original)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        try:
            value, _ = pickles.load(bytes(data))
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000
        else:
            known = list(pickles._GLOBALS.values())  # a damaged program may end with what it would have used
            assert value in known or isinstance(
                value, dict | list | tuple | str | int | float | Tensor | Storage | None
            )
    assert 500 < refused < 2000

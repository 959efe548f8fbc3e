"""The pickle interpreter: the same arrays as Python's own, and nothing but an error from anything else."""

import codecs
import collections
import io
import pickle
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy._core import multiarray, numeric

from ig65m.checkpoints.numpy_pickle import read_blobs
from ig65m.errors import CheckpointError
from tests import hostile

ARRAYS = {
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "big endian": np.arange(5, dtype=">f4"),
    "big endian fortran": np.asfortranarray(np.arange(24, dtype=">f2").reshape(2, 3, 4)),
    "half": np.linspace(-1, 1, 7).astype(np.float16),
    "double": np.arange(6.0).reshape(1, 2, 3),
    "scalar": np.array(3.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "axes in another order": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "strided": np.arange(20, dtype=np.float32).reshape(4, 5)[::2, ::2],
    "whole numbers": np.arange(4),
    "every byte": np.arange(256, dtype=np.uint8).view(np.int32),
}


def read(data):
    return {name: blob.read() for name, blob in read_blobs(io.BytesIO(data)).items()}


class NumpyOnly(pickle.Unpickler):
    """Python's own, for pickles that were found harmless."""

    def find_class(self, _, name):
        found = (
            multiarray._reconstruct,
            numeric._frombuffer,
            np.ndarray,
            np.dtype,
            codecs.encode,
            bytes,
            collections.OrderedDict,
        )
        return {thing.__name__: thing for thing in found}[name]


def assert_as_pythons_own(got, data):
    with warnings.catch_warnings(action="ignore", category=np.exceptions.VisibleDeprecationWarning):  # truth values as 0, 1
        wanted = NumpyOnly(io.BytesIO(data), encoding="latin1").load()
    wanted = wanted.get("blobs", wanted)
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        assert got[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [dict, lambda blobs: {"blobs": blobs}, collections.OrderedDict])
def test_arrays_are_those_of_pythons_own_unpickler(protocol, wrap):
    data = pickle.dumps(wrap(ARRAYS), protocol=protocol)
    got = read(data)
    assert_as_pythons_own(got, data)
    assert got.keys() == ARRAYS.keys()


def test_strings_of_python_2_protocol_0_are_bytes():
    quoted = b"\\x00\\x00\\x80?\\n\\r\\t\\\\\\'a\\xe9\\xff"
    data = hostile.checkpoint(hostile.array(hostile.shape(3), data=b"S'" + quoted + b"'\n"))
    np.testing.assert_array_equal(read(data)["conv1_w"], np.frombuffer(b"\0\0\x80?\n\r\t\\'a\xe9\xff", np.float32))
    long = hostile.checkpoint(hostile.array(hostile.shape(10**6), data=b"S'" + b"\\x00a\\'\\\\" * 10**6 + b"'\n"))
    assert set(read(long)["conv1_w"].view(np.uint32)) == {0x5C276100}  # where the file is read in pieces, escapes are cut


def test_numbers_are_converted_on_the_way():
    array = np.asfortranarray(np.linspace(-9, 9, 24).reshape(2, 3, 4).astype(">f2"))
    (blob,) = read_blobs(io.BytesIO(pickle.dumps({"x": array}, protocol=4))).values()
    got = blob.read(np.dtype(np.float32))
    assert got.flags.c_contiguous
    assert got.flags.writeable
    np.testing.assert_array_equal(got, array.astype(np.float32))


HOSTILE = hostile.pickles()  # all of them go through the command line in test_hostile_files


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "a call of system": r"'posix\.system'.*malicious",
        "INST": "opcode INST at byte 19",
        "a zip": r"zip.*\.pth",
        "empty": "it is empty",
        "a key twice": "'x' occurs twice",
        "a key with escapes": r"'\\x1b\[2J",
        "blob: shape negative": r"shape \(-2,\) is negative",
        "blob: shape other": r"shape \(3,\) and dtype float32 has 8 bytes; expected 12",
        "blob: dtype object": "dtype 'O8'; expected one of f2, f4",
        "blob: a number": "blob 'conv1_w' is int",
        "a huge entry": "memo entry 1073741823",
        "a huge frame": "frame of 9223372036854775808 bytes",
        "trailing data": "4 bytes follow its end",
    }.items(),
)
def test_the_error_names_what_is_wrong(name, message):
    with pytest.raises(CheckpointError, match=message):
        read(HOSTILE[name])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 5])
def test_truncation_anywhere_is_refused(protocol):
    data = pickle.dumps(ARRAYS, protocol=protocol)
    for length in range(len(data)):
        with pytest.raises(CheckpointError):
            read(data[:length])


def check(data):
    """What is accepted is what Python's own unpickler makes of it; the rest is refused with our error and no other."""
    try:
        got = read(data)
    except CheckpointError:
        return False
    assert_as_pythons_own(got, data)
    return True


fuzz = settings(max_examples=250, deadline=None)


@fuzz
@given(data=st.data())
def test_damaged_bytes(data):
    damaged = bytearray(pickle.dumps({"blobs": ARRAYS}, protocol=data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(damaged))


_BYTE, _SIZE = st.integers(0, 255), st.one_of(st.integers(0, 40), st.integers(-(2**31), 2**31 - 1))
_WORDS = st.sampled_from(
    [b"", b"b", b"C", b"F", b"K", b"f4", b"f2", b"<", b">", b"latin1", b"x", b"blobs", bytes(8), b"\xff\xe9"]
)
_LINES = st.sampled_from([b"0", b"1", b"00", b"01", b"-1", b"2", b"10L", b"1_0", b"nan", b"", b"'ab'", b"'\\x00'", b"'\\'"])
_GLOBALS = st.sampled_from(
    ["numpy.core.multiarray _reconstruct", "numpy._core.numeric _frombuffer", "numpy ndarray", "numpy dtype", "_codecs encode",
     "collections OrderedDict", "__builtin__ bytes", "os system"]
)  # fmt: skip
INSTRUCTIONS = st.one_of(
    st.sampled_from(
        [bytes([code]) for code in b"(012N}])dlteausRb.ioQ\x81\x85\x86\x87\x88\x89\x92\x93\x94\x8f\x90\x91\x97\x98"]
    ),
    st.builds(lambda op, n: op + bytes([n]), st.sampled_from([b"K", b"q", b"h", b"\x80", b"\x82"]), st.integers(0, 8)),
    st.builds(lambda op, n: op + struct.pack("<i", n), st.sampled_from([b"J", b"r", b"j", b"\x84"]), _SIZE),
    st.builds(lambda n: b"\x8a\x08" + struct.pack("<q", n), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda op, line: op + line + b"\n", st.sampled_from([b"I", b"L", b"F", b"p", b"g", b"S", b"V", b"P"]), _LINES),
    st.builds(lambda op, word: op + bytes([len(word)]) + word, st.sampled_from([b"U", b"C", b"\x8c"]), _WORDS),
    st.builds(lambda op, word: op + struct.pack("<I", len(word)) + word, st.sampled_from([b"T", b"X", b"B"]), _WORDS),
    st.builds(lambda op, word: op + struct.pack("<Q", len(word)) + word, st.sampled_from([b"\x8d", b"\x8e", b"\x96"]), _WORDS),
    st.builds(lambda names: b"c" + names.replace(" ", "\n").encode() + b"\n", _GLOBALS),
)


@fuzz
@given(st.lists(INSTRUCTIONS, max_size=60))
def test_programs_of_whole_instructions(program):
    check(b"".join(program) + b".")


@st.composite
def made_arrays(draw):
    """The instructions of one array: mostly right, in each of the ways in which numpy and Python 2 and 3 write them."""
    code = draw(st.sampled_from([b"f2", b"f4", b"f8", b"i4", b"i8"]))
    order = draw(st.sampled_from([b"<", b">"]))
    sizes = draw(st.lists(st.integers(0, 3), max_size=3))
    raw = draw(st.binary(min_size=(n := int(np.prod(sizes)) * int(code[1:])), max_size=n))
    utf8 = raw.decode("latin-1").encode()
    as_bytes = [
        [b"B" + struct.pack("<I", n) + raw],
        [b"c_codecs\nencode\n", b"X" + struct.pack("<I", len(utf8)) + utf8, b"U\x06latin1", b"\x86", b"R"],
    ]
    as_str = [[hostile.text(raw)], [b"S'" + b"".join(b"\\x%02x" % byte for byte in raw) + b"'\n"]]
    kind = [b"cnumpy\ndtype\n", hostile.text(code), b"K\x00", b"K\x01", b"\x87", b"R"]
    kind += [b"(", b"K\x03", hostile.text(order), *(bytes([byte]) for byte in b"NNN"), *[b"J\xff\xff\xff\xff"] * 2, b"K\x00"]
    kind += [b"t", b"b"]
    shape = [b"(", *(b"K" + bytes([size]) for size in sizes), b"t"]
    if draw(st.booleans()):
        layout = draw(st.sampled_from([b"U\x01C", b"U\x01F"]))
        return [
            b"cnumpy._core.numeric\n_frombuffer\n",
            b"(",
            *draw(st.sampled_from(as_bytes)),
            *kind,
            *shape,
            layout,
            b"t",
            b"R",
        ]
    made = [b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"K\x00", b"\x85", b"U\x01b", b"\x87", b"R"]
    fortran, data = draw(st.sampled_from([b"\x88", b"\x89"])), draw(st.sampled_from(as_bytes + as_str))
    return [*made, b"(", b"K\x01", *shape, *kind, fortran, *data, b"t", b"b"]


@st.composite
def checkpoints(draw):
    """The instructions of a checkpoint of arrays, with needless but harmless ones strewn in."""
    program = [b"\x80\x02", b"}", b"("]
    for n in range(draw(st.integers(1, 3))):
        program += [hostile.text(b"blob %d" % n), *draw(made_arrays())]
    program += [b"u"]
    for _ in range(draw(st.integers(0, 4))):
        harmless = [[b"N", b"0"], [b"(", b"K\x05", b"1"], [b"N", b"2", b"0", b"0"], [b"]", b"q\x09", b"h\x09", b"a", b"0"]]
        at = draw(st.integers(1, len(program)))
        program[at:at] = draw(st.sampled_from(harmless))
    return program


@pytest.mark.slow
@fuzz
@given(checkpoints())
def test_strange_but_right_checkpoints(program):
    assert check(b"".join(program) + b".")


@pytest.mark.slow
@fuzz
@given(checkpoints(), st.data())
def test_checkpoints_with_wrong_instructions(program, data):
    for _ in range(data.draw(st.integers(1, 3))):
        at, other = (data.draw(st.integers(0, len(program) - 1)) for _ in range(2))
        change = data.draw(st.sampled_from(["drop", "repeat", "swap", "insert", "replace"]))
        if change == "drop" and len(program) > 1:
            del program[at]
        elif change == "repeat":
            program.insert(other, program[at])
        elif change == "swap":
            program[at], program[other] = program[other], program[at]
        else:
            program[at : at + (change == "replace")] = [data.draw(INSTRUCTIONS)]
    check(b"".join(program) + b".")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_whole_checkpoints_with_a_wrong_byte(tiny, protocol):
    with tiny.open("rb") as file:
        blobs = pickle.load(file, encoding="latin1")["blobs"]
    some = {name: blob for name, blob in blobs.items() if blob.size < 50}
    data = pickle.dumps({"blobs": some}, protocol=protocol)
    random = np.random.default_rng(protocol)
    accepted = 0
    for at in random.integers(0, len(data), 100):
        accepted += check(data[:at] + bytes([random.integers(256)]) + data[at + 1 :])
    assert accepted  # a wrong byte within the numbers is another number

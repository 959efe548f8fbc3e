"""The pickle interpreter: the same arrays as Python's own, and nothing but an error from anything else."""

import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ig65m.checkpoints.unpickle import read_blobs
from ig65m.errors import CheckpointError

ARRAYS = {
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "big endian": np.arange(5, dtype=">f4"),
    "half": np.linspace(-1, 1, 7).astype(np.float16),
    "double": np.arange(6.0).reshape(1, 2, 3),
    "scalar": np.array(3.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "axes in another order": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "strided": np.arange(20, dtype=np.float32).reshape(4, 5)[::2, ::2],
    "whole numbers": np.arange(4),
}


def read(tmp_path, data):
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(data)
    return read_blobs(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [False, True])
def test_arrays_are_those_of_pythons_own_unpickler(tmp_path, protocol, wrap):
    got = read(tmp_path, pickle.dumps({"blobs": ARRAYS} if wrap else ARRAYS, protocol=protocol))
    assert got.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


class Executes:
    def __reduce__(self):
        return os.system, ("touch executed",)


class HasState:
    pass


OBJECTS = np.array([1, "two"], dtype=object)
HOSTILE = {
    "a call": pickle.dumps({"blobs": {"x": Executes()}}, protocol=2),
    "a call, protocol 0": pickle.dumps(Executes(), protocol=0),
    "an instance": pickle.dumps({"blobs": {"x": HasState()}}, protocol=2),
    "INST": b"(S'touch executed'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch executed'\no.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"Pexecuted\n.",
    "objects": pickle.dumps({"x": OBJECTS}, protocol=2),
    "structured": pickle.dumps({"x": np.zeros(2, [("a", "f4"), ("b", "f4")])}, protocol=2),
    "sub-arrays": pickle.dumps({"x": np.zeros(2, np.dtype((np.void, 8)))}, protocol=2),
    "text": pickle.dumps({"x": np.array(["a", "b"])}, protocol=2),
    "a huge length": b"\x80\x02T\xff\xff\xff\x7f",
    "a huge 64-bit length": b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
    "a huge memo index": b"\x80\x02}r\xff\xff\xff\x3fq\x00j\x05\x00\x00\x00.",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**63),
    "text used over and over": b"\x80\x02c_codecs\nencode\nq\x00X"
    + struct.pack("<I", 10**6)
    + b"a" * 10**6
    + b"X\x06\x00\x00\x00latin1"
    + b"\x86q\x01"
    + b"h\x00h\x01R" * 1500
    + b".",
    "a list used over and over": pickle.dumps([(f"a{n}", None) for n in range(2000)], protocol=2)[:-1]
    + b"q\xff0ccollections\nOrderedDict\n"
    + b"h\xff\x85R"
    + b"ccollections\nOrderedDict\nh\xff\x85R" * 3000
    + b".",
    "a shape beyond memory": pickle.dumps({"x": np.zeros((0, 3, 5), np.float32)}, protocol=2).replace(
        b"K\x00K\x03K\x05", b"K\x00" + b"\x8a\x08" + struct.pack("<q", 2**38) + b"\x8a\x08" + struct.pack("<q", 2**38)
    ),
    "deep nesting": b"\x80\x02" + b"]" * 10 + b"\x85" * 400_000 + b".",
    "endless opcodes": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "nothing": b"",
    "text file": b"hello, this is no pickle\n",
    "zip": b"PK\x03\x04" + bytes(100),
    "only a mark": b"(.",
    "a number": b"K\x01.",
    "a list": b"].",
    "an empty dictionary": b"}.",
    "tuples as keys": b"})K\x01s.",
    "unbalanced": b"0.",
    "other things beside the blobs": pickle.dumps({"blobs": {"x": ARRAYS["half"]}, "more": {}}, protocol=2),
    "trailing data": pickle.dumps(ARRAYS, protocol=2) + b"more",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_anything_else_is_refused(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pkl"):
        read(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pkl"]


def test_a_shape_that_lies_is_refused(tmp_path):
    data = pickle.dumps({"x": np.zeros((3, 5), np.float32)}, protocol=2)
    assert data.count(b"K\x03K\x05\x86") == 1
    for lie in (b"K\x04K\x05\x86", b"J\xff\xff\xff\xffK\x05\x86", b"K\x00K\x05\x86"):
        with pytest.raises(CheckpointError, match="shape"):
            read(tmp_path, data.replace(b"K\x03K\x05\x86", lie))


def test_truncation_anywhere_is_refused(tmp_path):
    data = pickle.dumps(ARRAYS, protocol=2)
    for length in range(len(data)):
        with pytest.raises(CheckpointError):
            read(tmp_path, data[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_arrays_or_our_error(tmp_path, data):
    original = pickle.dumps({"blobs": ARRAYS}, protocol=data.draw(st.integers(0, 5)))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        blobs = read(tmp_path, bytes(damaged))
    except CheckpointError:
        return
    assert all(isinstance(blob, np.ndarray) and blob.dtype.kind in "fi" for blob in blobs.values())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    opcodes=st.lists(st.sampled_from([op.code.encode("latin-1") for op in pickletools.opcodes]), max_size=40), tail=st.binary()
)
def test_random_programs_give_our_error(tmp_path, opcodes, tail):
    with pytest.raises(CheckpointError):
        read(tmp_path, b"".join(opcodes) + tail)

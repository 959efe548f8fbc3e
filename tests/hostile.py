"""Pickles of an attacker, put together opcode by opcode or by pickle itself."""

import builtins
import collections
import copyreg
import functools
import importlib
import operator
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import time

import numpy as np

TOUCH = "touch executed"


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def text(data):
    """A `str` of Python 2."""
    return b"T" + struct.pack("<I", len(data)) + data


def number(n):
    return b"\x8a\x08" + struct.pack("<q", n)


def shape(*sizes):
    return b"(" + b"".join(map(number, sizes)) + b"t"


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
PLAIN = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"


def dtype(code=b"f4", order=b"<", rest=PLAIN):
    return b"cnumpy\ndtype\n" + text(code) + b"K\x00K\x01\x87R(K\x03" + text(order) + rest + b"tb"


def array(sizes=None, kind=None, data=None, fortran=b"\x89", made=RECONSTRUCT):
    """Two float32, unless told otherwise."""
    sizes, kind = shape(2) if sizes is None else sizes, dtype() if kind is None else kind
    return made + b"(K\x01" + sizes + kind + fortran + (text(bytes(8)) if data is None else data) + b"tb"


def checkpoint(value, name=b"conv1_w", before=b""):
    return b"\x80\x02" + before + b"}" + text(b"blobs") + b"}" + text(name) + value + b"ss."


def _calls():
    yield from {
        "system": Call(os.system, TOUCH),
        "eval": Call(eval, "open('executed', 'w')"),
        "exec": Call(exec, "open('executed', 'w')"),
        "open": Call(open, "executed", "w"),
        "Popen": Call(subprocess.Popen, ["touch", "executed"]),
        "import": Call(importlib.import_module, "antigravity"),
        "getattr": Call(getattr, "x", "upper"),
        "partial": Call(functools.partial, os.system, TOUCH),
        "methodcaller": Call(operator.methodcaller, "system", TOUCH),
        "reconstructor": Call(copyreg._reconstructor, collections.OrderedDict, dict, {}),
        "pickle in pickle": Call(pickle.loads, pickle.dumps(Call(os.system, TOUCH))),
        "copy": Call(shutil.copy, "/etc/hostname", "executed"),
        "touch": Call(pathlib.Path.touch, pathlib.PurePosixPath("executed")),
        "exit": Call(sys.exit, 0),
        "kill": Call(os.kill, 0, 9),
        "sleep": Call(time.sleep, 1000),
        "print": Call(builtins.print, "\x1b[2J"),
        "memmap": Call(np.memmap, "executed", "f4", "w+", 0, (4,)),
        "zeros": Call(np.zeros, (10**5, 10**5)),
        "bytearray": Call(bytearray, 10**11),
        "a function": len,
        "a numpy scalar": np.float32(3),
        "a masked array": np.ma.zeros(3),
        "a set": {1},
        "a default dictionary": collections.defaultdict(list, a=1),
    }.items()


def _programs():
    yield "INST", b"(S'touch executed'\nios\nsystem\n."
    yield "OBJ", b"(cos\nsystem\nS'touch executed'\no."
    yield "NEWOBJ", b"\x80\x02csubprocess\nPopen\nU\x0etouch executed\x85\x81."
    yield "NEWOBJ_EX", b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93)}\x92."
    yield "STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R."
    yield "STACK_GLOBAL of a path", b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93."
    yield "STACK_GLOBAL of numbers", b"\x80\x04K\x01K\x02\x93."
    yield "EXT", b"\x80\x02\x82\x01."
    yield "PERSID", b"Pexecuted\n."
    yield "BINPERSID", b"U\x08executedQ."
    yield "GLOBAL with escapes", b"cos\n\x1b]0;pwned\x07\n."
    yield "BUILD of a dictionary", b"\x80\x02}}U\x01aK\x01sb."
    yield "BUILD of a class", b"\x80\x02cnumpy\nndarray\n}U\x05shapeK\x01sb."
    yield "BUILD of an OrderedDict", b"\x80\x02ccollections\nOrderedDict\n)R}U\x05itemsK\x01sb."
    yield "a buffer from outside", b"\x80\x05\x97."


def _arrays():
    for name, sizes in {
        "negative": shape(-2),
        "twice negative": shape(-1, -2),
        "beyond 64 bits": shape(2**32, 2**32),
        "nothing times much": shape(0, 2**62),
        "five thousand million": shape(5 * 10**9),
        "other": shape(3),
        "of 64 dimensions": shape(*[1] * 64, 2),
        "of fractions": b"G" + struct.pack(">d", 2) + b"\x85",
        "of truth values": b"\x88\x85",
        "of text": text(b"2") + b"\x85",
        "a list": b"]K\x02a",
        "none": b"N",
        "of 2000 bits": b"\x8a\xff" + b"\x7f" * 255 + b"\x85",
        "of 2 GB of digits": b"\x8b\xff\xff\xff\x7f",
        "of 5000 digits": b"I" + b"1" * 5000 + b"\n\x85",
        "with an underscore": b"I0_2\n\x85",
        "in Arabic digits": b"I\xd9\xa2\n\x85",
        "deep": b")" + b"\x85" * 150_000,
        "a million million": b"K\x02" + b"2\x86" * 60,
    }.items():
        yield f"shape {name}", array(sizes)
    for name, kind in {
        "object": dtype(b"O8", b"|", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?"),
        "object without its flags": dtype(b"O8", b"|"),
        "void": dtype(b"V8", b"|"),
        "text": dtype(b"U1"),
        "complex": dtype(b"c8"),
        "quadruple": dtype(b"f16"),
        "list of types": dtype(b"f4,f4"),
        "sub-array": dtype(rest=dtype() + b"K\x02\x85\x86NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"),
        "structured": dtype(
            rest=b"N" + text(b"a") + b"\x85}" + text(b"a") + dtype() + b"K\x00\x86sJ\xff\xff\xff\xffK\x00K\x00"
        ),
        "of another size": dtype(rest=b"NNNK\x20K\x01K\x00"),
        "with flags": dtype(rest=b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3f"),
        "in another order": dtype(order=b"!"),
        "set twice": dtype() + b"(K\x03" + text(b">") + PLAIN + b"tb",
        "its own state": b"cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87Rq\x01h\x01b",
        "a class": b"cnumpy\ndtype\n",
        "escapes": dtype(b"\x1b[2J"),
    }.items():
        yield f"dtype {name}", array(kind=kind)
    for name, data in {
        "short": text(bytes(7)),
        "long": text(bytes(9)),
        "of objects": b"](K\x01K\x02e",
        "unicode": b"X\x08\x00\x00\x00" + bytes(8),
        "beyond bytes": b"c_codecs\nencode\nX\x06\x00\x00\x00" + b"\xe2\x82\xac" * 2 + text(b"latin1") + b"\x86R",
        "in another codec": b"c_codecs\nencode\nX\x08\x00\x00\x00" + b"a" * 8 + text(b"rot13") + b"\x86R",
        "badly escaped": b"S'\\x1'\n",
        "escaped without end": b"S'abcdefg\\'\n",
        "of a huge length": b"T\xff\xff\xff\x7f",
        "of a huge 64-bit length": b"\x8e" + struct.pack("<Q", 2**63),
        "an array": array(),
    }.items():
        yield f"data {name}", array(data=data)
    yield "an array set twice", array() + array()[len(RECONSTRUCT) :]
    yield "an array never set", RECONSTRUCT
    yield "an array of itself", RECONSTRUCT + b"q\x01(K\x01" + shape(2) + dtype() + b"\x89h\x01tb"
    yield "a matrix by _reconstruct", array(made=RECONSTRUCT.replace(b"ndarray", b"matrix"))
    yield "scalar", b"cnumpy.core.multiarray\nscalar\n" + dtype() + text(bytes(4)) + b"\x86R"
    yield "a dtype", dtype()
    yield "a number", b"K\x01"
    yield "nothing", b"N"


def _structures():
    yield "empty", b""
    yield "text", b"hello, this is no pickle\n"
    yield "a web page", b"<!DOCTYPE html><html>404</html>"
    yield "a zip", b"PK\x03\x04" + bytes(100)
    yield "zeros", bytes(1000)
    yield "another protocol", b"\x80\x06}."
    yield "a number alone", b"K\x01."
    yield "a list alone", b"]."
    yield "an empty dictionary", b"}."
    yield "a tuple as key", b"})K\x01s."
    yield "a list as key", b"}]K\x01s."
    yield "a number as key", pickle.dumps({1: 2}, 2)
    yield "a key twice", b"\x80\x02}" + (text(b"x") + array() + b"s") * 2 + b"."
    yield "a key of a megabyte", b"\x80\x02}" + text(b"a" * 10**6) + b"Ns."
    yield "a key with escapes", checkpoint(array(), b"\x1b[2J\x1b]0;pwned\x07")
    yield "a key that fakes a message", checkpoint(array(), b"x\nTraceback (most recent call last):\n")
    yield "a key that is no unicode", b"\x80\x02}X\x02\x00\x00\x00\xff\xfe" + array() + b"s."
    yield "a key that turns the direction", b"\x80\x02}X\x03\x00\x00\x00" + "\u202e".encode() + array() + b"s."
    yield "a dictionary in itself", b"\x80\x02}q\x00U\x05blobsh\x00s."
    yield "a list in itself", b"\x80\x02]q\x00h\x00a."
    yield "a tuple in itself", b"\x80\x02]q\x01h\x01\x85q\x02h\x01h\x02a0."
    yield "an OrderedDict of a list in itself", b"\x80\x02]q\x00h\x00a0ccollections\nOrderedDict\nh\x00\x85R."
    yield "a stack that runs empty", b"0."
    yield "a mark too few", b"1."
    yield "a mark too many", b"(."
    yield "an entry never made", b"h\x05."
    yield "a negative entry", b"}p-1\n."
    yield "a huge entry", b"\x80\x02}r\xff\xff\xff\x3f."
    yield "a huge frame", b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"}."
    yield "trailing data", pickle.dumps({"x": np.zeros(3, "f4")}, 2) + b"more"


def _resources():
    yield "deep tuples", b"\x80\x02]" + b"\x85" * 190_000 + b"."
    yield "deep dictionaries", b"\x80\x02" + b"}U\x01a" * 40_000 + b"N" + b"s" * 40_000 + b"."
    yield "endless lists", b"]" * 1_000_000
    yield "endless text", b"\x80\x02" + b"U\x00" * 500_000
    yield "endless marks", b"(" * 190_000 + b"."
    yield "marks far down", b"N" * 190_000 + b"1."
    yield "entries of one hash", b"}" + b"".join(b"p%d\n" % (n * (2**61 - 1)) for n in range(1, 60_000)) + b"."
    yield "a line of megabytes", b"I" + b"1" * 10**7
    yield "a million names", b"\x80\x02}(" + b"".join(text(b"%0120d" % n) + b"N" for n in range(50_000)) + b"u."
    once = b"c_codecs\nencode\nq\x00X" + struct.pack("<I", 10**6) + b"a" * 10**6 + text(b"latin1") + b"\x86q\x01}"
    made = array(shape(250_000), data=b"h\x00h\x01R")
    names = [text(b"comp_%d_conv_%d_w" % divmod(n, 10)) for n in range(1000)]
    yield "text over and over", b"\x80\x02" + once + b"(" + b"".join(name + made for name in names) + b"u."
    made = array(shape(250_000), data=b"h\x00")
    yield "bytes over and over", b"\x80\x02" + text(bytes(10**6)) + b"q\x00}(" + b"".join(n + made for n in names) + b"u."
    whole = array(shape(250_000), data=text(bytes(10**6)))
    yield "an array over and over", b"\x80\x02" + whole + b"q\x00}(" + b"".join(n + b"h\x00" for n in names) + b"u."
    pairs = b"](" + b"".join(text(b"%d" % n) + b"N\x86" for n in range(30_000)) + b"eq\x00ccollections\nOrderedDict\nq\x01"
    yield "a list over and over", b"\x80\x02" + text(bytes(10**7)) + pairs + b"h\x01h\x00\x85R" * 1000 + b"."


def pickles():
    """{what is wrong: a hostile pickle}."""
    found = {f"a call of {name}": pickle.dumps({"blobs": {"x": made}}, protocol=2) for name, made in _calls()}
    found |= {f"a call in protocol {n}": pickle.dumps({"x": [Call(os.system, TOUCH)]}, protocol=n) for n in range(6)}
    found |= {f"blob: {name}": checkpoint(value) for name, value in _arrays()}
    return found | dict(_programs()) | dict(_structures()) | dict(_resources())

"""Hostile model files through the command line: refused in a line or two, nothing executed, nothing left behind."""

import collections
import io
import json
import os
import signal
import struct
import sys
import tarfile
import zipfile

import pytest
import torch
from safetensors.torch import save

import ig65m.cli
from ig65m.zoo.load import load_model
from tests import hostile

SECONDS = 30  # after which a file has hung the program


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Runs `ig65m ARGS` in an empty folder, and checks that it is refused as it should be; what it said on stderr."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def hung(*_):
        raise TimeoutError("it hangs")

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["ig65m", *map(str, args)])
        before = signal.signal(signal.SIGALRM, hung)
        signal.alarm(SECONDS)
        try:
            with pytest.raises(SystemExit) as stop:
                ig65m.cli.main()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        out, err = capfd.readouterr()
        assert stop.value.code == 2, err
        assert out == ""
        lines = err.rstrip("\n").split("\n")
        assert 1 <= len(lines) <= 2
        assert all(line.isprintable() for line in lines)
        assert 20 < len(err) < 800
        assert not err.startswith("Traceback")
        assert "bug in ig65m" not in err
        assert list(folder.iterdir()) == []
        return err

    return call


PICKLES = hostile.pickles()


@pytest.mark.slow
@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name, refused, tmp_path):
    path = tmp_path / "evil.pkl"
    path.write_bytes(PICKLES[name])
    assert "evil.pkl" in refused("convert", path, "new/out")


@pytest.mark.parametrize("name", ["a call of system", "INST", "blob: shape negative", "endless text", "empty"])
def test_pickles_as_a_model_to_classify_with(name, refused, tmp_path, bigbuckbunny):
    path = tmp_path / "evil.pkl"
    path.write_bytes(PICKLES[name])
    assert "evil.pkl" in refused("classify", bigbuckbunny, "--model", path)


def written(state, **options):
    out = io.BytesIO()
    torch.save(state, out, **options)
    return out.getvalue()


def rezipped(data, change, compression=zipfile.ZIP_STORED, more=None):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            if (record := change(name, old.read(name))) is not None:
                new.writestr(name, record)
        if more is not None:
            new.writestr(more, b"N.")
    return out.getvalue()


def tarred(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class Stretched:
    """A tensor of more numbers than its storage has."""

    def __reduce__(self):
        storage = torch.storage.TypedStorage(wrap_storage=torch.ones(4).untyped_storage(), dtype=torch.float32, _internal=True)
        arguments = storage, 0, (20_000, 50_000), (50_000, 1), False, collections.OrderedDict()
        return torch._utils._rebuild_tensor_v2, arguments


@pytest.fixture(scope="module")
def state(tiny):
    return {key: tensor.clone() for key, tensor in load_model(tiny).state_dict().items()}


def state_dicts(state):
    """{what is wrong: a hostile .pth}"""
    head, whole = state["fc.weight"], written(state)
    one = torch.ones(200_000)
    shared = {key: one[: tensor.numel()].view(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()}

    def give_methods(name, record):
        """An OrderedDict whose items and keys are a number, with a card that is none."""
        card = b"X\x09\x00\x00\x00_metadata}X\x05\x00\x00\x00ig65m}X\x04\x00\x00\x00cardX\x01\x00\x00\x00{sss"
        methods = b"X\x05\x00\x00\x00itemsK\x05sX\x04\x00\x00\x00keysK\x05s"
        return record[:-1] + b"}" + card + methods + b"b." if name.endswith("data.pkl") else record

    def program(code):
        return rezipped(whole, lambda name, record: code if name.endswith("data.pkl") else record)

    return {
        "a call, zip": written(state | {"x": hostile.Call(os.system, hostile.TOUCH)}),
        "a call, as of 2019": written({"x": hostile.Call(exec, "1")}, _use_new_zipfile_serialization=False),
        "a call by hand": program(b"cos\nsystem\n(S'touch executed'\ntR."),
        "escapes by hand": program(b"\x80\x02c\x1b[2Jx\n\x1b]0;pwned\x07\n."),
        "a huge entry": program(b"\x80\x02}r\xff\xff\xff\x3f."),
        "a huge length": program(b"\x80\x02X\xff\xff\xff\x7f"),
        "an unhashable key": program(b"\x80\x02}]K\x01s."),
        "deep tuples": program(b"\x80\x02]" + b"\x85" * 10**6 + b"."),
        "bytearray": written(state | {"x": hostile.Call(bytearray, 10**11)}),
        "one number stretched far": written(state | {"fc.weight": torch.ones(1, 1).expand(10**6, 10**6)}),
        "a stretched storage": written(state | {"fc.weight": Stretched()}),
        "one storage for all": written(shared | {"x": one}),
        "sparse": written(state | {"fc.weight": head.to_sparse()}),
        "complex": written(state | {"fc.weight": head.to(torch.complex64)}),
        "without storage": written(state | {"fc.weight": torch.empty(2**30, 2**20, device="meta")}),
        "8 bits": written(state | {"fc.weight": head.to(torch.float8_e4m3fn)}),
        "empty": written(
            state | {"layer4.0.conv2.0.3.weight": torch.zeros(2**31, 0, 1, 1, 1), "fc.weight": torch.zeros(0, 2**31)}
        ),
        "methods of its own": rezipped(whole, give_methods),
        "compressed": rezipped(whole, lambda _, record: record, zipfile.ZIP_DEFLATED),
        "a bomb": rezipped(
            whole, lambda name, record: bytes(10**8) if name.endswith("/data/0") else record, zipfile.ZIP_DEFLATED
        ),
        "a record missing": rezipped(whole, lambda name, record: None if name.endswith("/data/0") else record),
        "a record short": rezipped(whole, lambda name, record: record[:-4] if name.endswith("/data/0") else record),
        "TorchScript": rezipped(whole, lambda _, record: record, more="archive/constants.pkl"),
        "tar": tarred(storages=b"x", tensors=b"x", pickle=b"cos\nsystem\n(S'touch executed'\ntR."),
        "cut": whole[:-1],
        "no file": b"",
    }


def tensors_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def safetensors_files(state):
    """{what is wrong: a hostile .safetensors}"""
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return {
        "no file": b"",
        "a huge header": tensors_file({}, length=2**63),
        "a header of 100 MB": tensors_file({}, length=10**8),
        "a header beyond the file": tensors_file({}, length=1000),
        "no JSON": tensors_file(b"{{{{"),
        "deep JSON": tensors_file(b"[" * 100_000),
        "no tensors": tensors_file({}),
        "a tensor twice": tensors_file(b'{"a":%b,"a":%b}' % (json.dumps(one).encode(), json.dumps(one).encode()), bytes(4)),
        "overlapping": tensors_file({"a": one, "b": one}, bytes(4)),
        "a hole": tensors_file({"a": one, "b": one | {"data_offsets": [8, 12]}}, bytes(12)),
        "beyond the end": tensors_file({"a": one | {"data_offsets": [0, 400]}}, bytes(4)),
        "a shape that lies": tensors_file({"a": one | {"shape": [5]}}, bytes(4)),
        "a huge shape": tensors_file({"a": one | {"shape": [2**62, 2**62]}}, bytes(4)),
        "a dtype with escapes": tensors_file({"a": one | {"dtype": "\x1b[2Jx" * 100}}, bytes(4)),
        "a key with escapes": tensors_file({"\x1b[2J": one}, bytes(4)),
        "whole numbers": tensors_file({"fc.weight": one | {"dtype": "I32"}}, bytes(4)),
        "a hostile card": save(state, {"ig65m": json.dumps({"\x1b[2J\n": 1})}),
        "cut": save(state)[:-1],
    }


@pytest.mark.slow
def test_state_dicts(state, refused, tmp_path):
    for name, data in state_dicts(state).items():
        path = tmp_path / "evil.pth"
        path.write_bytes(data)
        said = refused("convert", path, "new/out")
        assert "evil.pth" in said, name
        assert "safe_globals" not in said, name
        assert "weights_only" not in said, name


def test_safetensors(state, refused, tmp_path):
    for data in safetensors_files(state).values():
        path = tmp_path / "evil.safetensors"
        path.write_bytes(data)
        assert "evil.safetensors" in refused("convert", path, "new/out")


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_what_is_no_regular_file(suffix, refused, tmp_path):
    pipe, loop, folder, device = (tmp_path / f"{name}{suffix}" for name in ("pipe", "loop", "folder", "device"))
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    folder.mkdir()
    device.symlink_to("/dev/zero")
    for path in (pipe, folder, device):
        assert "not a regular file" in refused("convert", path, "new/out")
    assert "no such model file" in refused("convert", loop, "new/out")


def test_one_kind_named_as_another(state, refused, tiny, tmp_path):
    kinds = {".pkl": tiny.read_bytes(), ".pth": written(state), ".safetensors": save(state)}
    for kind, data in kinds.items():
        for suffix in kinds.keys() - {kind}:
            path = tmp_path / f"evil{suffix}"
            path.write_bytes(data)
            refused("convert", path, "new/out")

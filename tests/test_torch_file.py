"""PyTorch's files are read without PyTorch, to the same numbers as by PyTorch."""

import collections
import io
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from ig65m.checkpoints.torch_file import open_torch_file
from ig65m.checkpoints.torch_pickle import Tensor
from ig65m.errors import CheckpointError
from ig65m.zoo.files import read_pth
from ig65m.zoo.load import load_model, load_weights
from tests import hostile

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
FORMATS = pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "as of 2019"])


def tensors():
    generator = torch.Generator().manual_seed(5)
    made = {str(dtype): (torch.randn(3, 4, 5, generator=generator) * 50).to(dtype) for dtype in DTYPES}
    whole = torch.randn(6, 8, 10, generator=generator)
    made |= {
        "a part": whole[2:4, :, 3:7],
        "each second": whole[::2, 1::3],
        "transposed": whole.permute(2, 0, 1),
        "a view of the same memory": whole.view(48, 10)[5],
        "channels last": torch.randn(2, 3, 4, 5, generator=generator).contiguous(memory_format=torch.channels_last),
        "a number": torch.tensor(7),
        "nothing": torch.zeros(0, 3),
        "true and false": torch.tensor([True, False, True]),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "a parameter": nn.Parameter(torch.randn(4, generator=generator)),
        "needs gradients": torch.randn(4, generator=generator).requires_grad_(),
        "a name with ü and \n": torch.ones(2),
    }
    return made


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dense_tensor_is_what_pytorch_reads(how, protocol, tmp_path):
    path = tmp_path / "x.pth"
    torch.save(tensors(), path, pickle_protocol=protocol, **how)
    arrays, card = read_pth(path)
    wanted = torch.load(path, weights_only=False)  # its own restricted reader knows protocols up to 3
    assert card is None
    assert list(arrays) == list(wanted)
    for key, tensor in wanted.items():
        as_numpy = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        np.testing.assert_array_equal(arrays[key], as_numpy.numpy())
        assert arrays[key].dtype == as_numpy.numpy().dtype
        assert arrays[key].flags.c_contiguous


@FORMATS
def test_whatever_training_saves_beside_the_network_is_passed_over(how, tiny, tmp_path):
    weights = load_weights(tiny)
    network = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])  # has a Counter
    state = {key: nn.Parameter(torch.from_numpy(array), requires_grad=False) for key, array in weights.arrays.items()}
    saved = {
        "state_dict": collections.OrderedDict(state),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "meta": {"epoch": 5, "loss": 0.25, "none": None, "dtype": torch.float16, "size": torch.Size([1, 2]), "set": {1}},
        "device": torch.device("cpu"),
        1: [True, -1, 10**12, 3.5, "text", b"bytes", (1, 2)],
    }
    torch.save(saved, tmp_path / "x.pth", **how)
    torch.load(tmp_path / "x.pth", weights_only=True)
    assert load_weights(tmp_path / "x.pth").sha256 == weights.sha256


def test_numbers_of_the_other_byte_order_are_read(tmp_path):
    path, other = tmp_path / "little.pth", tmp_path / "big.pth"
    torch.save({"x": torch.arange(7.0), "y": torch.arange(5)}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            record = old.read(name)
            if name.endswith("byteorder"):
                record = b"big"
            elif "/data/" in name:
                record = np.frombuffer(record, "<f4" if name.endswith("0") else "<i8").byteswap().tobytes()
            new.writestr(name, record)
    arrays, _ = read_pth(other)
    wanted = torch.load(other, weights_only=True)
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, wanted[key].numpy())
    np.testing.assert_array_equal(arrays["x"], np.arange(7))


def test_a_file_without_checksums_is_read_and_one_with_a_wrong_one_is_not(tmp_path):
    path = tmp_path / "x.pth"
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save({"x": torch.arange(100.0)}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    np.testing.assert_array_equal(read_pth(path)[0]["x"], np.arange(100))
    torch.save({"x": torch.arange(100.0)}, path)
    data = path.read_bytes()
    place = data.index(np.arange(3, 100, dtype="f4").tobytes())
    path.write_bytes(data[:place] + b"\1" + data[place + 1 :])
    with pytest.raises(CheckpointError, match="damaged: its checksum"):
        read_pth(path)


def test_whatever_machine_wrote_it_the_format_of_2019_is_little_endian(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"x": torch.arange(7.0)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    place = data.index(b"\x88", data.index(b"little_endian"))
    path.write_bytes(data[:place] + b"\x89" + data[place + 1 :])
    np.testing.assert_array_equal(read_pth(path)[0]["x"], torch.load(path, weights_only=True)["x"].numpy())


@FORMATS
def test_networks_whose_tensors_share_memory_in_the_file_do_not_share_it_afterwards(how, tiny, tmp_path):
    state = {key: torch.from_numpy(array) for key, array in load_weights(tiny).arrays.items()}
    counter, ones = torch.tensor(0), torch.ones(64)
    for key, tensor in state.items():
        if key.endswith("tracked"):
            state[key] = counter
        elif key.endswith("running_var"):
            state[key] = ones[: len(tensor)] if len(tensor) <= 64 else tensor
    torch.save(state, tmp_path / "x.pth", **how)
    model = load_model(tmp_path / "x.pth").train()
    model(torch.randn(2, 3, 8, 32, 32))
    assert {int(count) for name, count in model.named_buffers() if name.endswith("tracked")} == {1}
    storages = [tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()]
    assert len(set(storages)) == len(storages)


@FORMATS
def test_what_pytorch_has_besides_dense_tensors_is_refused_only_among_the_weights(how, tiny, tmp_path):
    state = {key: torch.from_numpy(array) for key, array in load_weights(tiny).arrays.items()}
    named = nn.Parameter(state["fc.weight"], requires_grad=False)
    named.tag = "head"
    beside = {"seed": 2**64 - 5, "sparse": torch.eye(3).to_sparse(), "meta": torch.zeros(3, device="meta")}
    if not how:
        beside |= {"complex": torch.ones(2, dtype=torch.complex64), "wide": torch.ones(2, dtype=torch.uint16)}
    torch.save({"state_dict": state | {"fc.weight": named}, **beside}, tmp_path / "x.pth", **how)
    torch.load(tmp_path / "x.pth", weights_only=True)
    assert load_weights(tmp_path / "x.pth").sha256 == load_weights(tiny).sha256
    torch.save(state | {"fc.weight": torch.eye(3).to_sparse()}, tmp_path / "x.pth", **how)
    with pytest.raises(CheckpointError, match=r"unsupported kind \(sparse_tensor\) under a key of str; expected .* dense"):
        load_weights(tmp_path / "x.pth")


def test_only_what_is_read_takes_memory(tmp_path):
    torch.save({"small": torch.ones(2), "large": torch.zeros(1 << 20)}, tmp_path / "x.pth")
    with open_torch_file(tmp_path / "x.pth") as file:
        assert {type(value) for value in file.content.values()} == {Tensor}
        np.testing.assert_array_equal(file.read(file.content["small"]), [1, 1])
        assert sum(array.nbytes for array in file._storages.values()) == 8


def test_pytorch_is_not_imported(tiny, tmp_path):
    torch.save({key: torch.from_numpy(array) for key, array in load_weights(tiny).arrays.items()}, tmp_path / "x.pth")
    code = "import sys; from ig65m.zoo.load import load_weights; load_weights(sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.pth"], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_pth(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800
    return str(caught.value)


def of_2019(content, keys=(), numbers=b"", version=b"M\xe9\x03."):
    """A file in the format of 2019, whose content is made by these opcodes."""
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    listed = b"\x80\x02](" + b"".join(text(key) for key in keys) + b"e."
    return magic + b"\x80\x02" + version + b"\x80\x02}." + b"\x80\x02" + content + b"." + listed + numbers


def text(data):
    return b"X" + struct.pack("<I", len(data)) + data


def storage(kind=b"torch\nFloatStorage", key=b"0", count=b"K\x02", rest=b"N"):
    return b"(" + text(b"storage") + b"c" + kind + b"\n" + text(key) + text(b"cpu") + count + rest + b"tQ"


def tensor(of=None, offset=b"K\x00", shape=b"K\x02\x85", strides=b"K\x01\x85", rest=b"\x89N"):
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + (storage() if of is None else of) + offset + shape + strides + rest + b"tR"


def state(value, name=b"x"):
    return b"}" + text(name) + value + b"s"


def nested(depth):
    """Arguments of the constructor of tensors with attributes, for itself, so many times."""
    constructor, kind = b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ctorch\nTensor\n"
    return constructor + (b"(" + constructor + kind) * depth + b")" + b"Nt" * depth + b"R"


NINE = b"(" + b"K\x01" * 9 + b"t"
EMPTY = b"K\x00" + hostile.number(2**62) + b"\x86"
TWO = struct.pack("<qff", 2, 1.0, 2.0)


def test_a_file_by_hand_is_read(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(of_2019(state(tensor()), [b"0"], TWO))
    np.testing.assert_array_equal(read_pth(path)[0]["x"], torch.load(path, weights_only=True)["x"].numpy())


BY_HAND = {
    "another version": (of_2019(state(tensor()), [b"0"], TWO, b"M\xea\x03."), "version 1001"),
    "a negative offset": (of_2019(state(tensor(offset=b"J\xff\xff\xff\xff")), [b"0"], TWO), "whole numbers"),
    "negative strides": (of_2019(state(tensor(strides=b"J\xff\xff\xff\xff\x85")), [b"0"], TWO), "whole numbers"),
    "fractions as shape": (of_2019(state(tensor(shape=b"G" + struct.pack(">d", 2) + b"\x85")), [b"0"], TWO), "whole numbers"),
    "an offset beyond the storage": (of_2019(state(tensor(offset=b"K\x01")), [b"0"], TWO), "larger than its storage"),
    "strides beyond the storage": (of_2019(state(tensor(strides=b"K\x02\x85")), [b"0"], TWO), "larger than its storage"),
    "more strides than dimensions": (of_2019(state(tensor(strides=b"K\x01K\x01\x86")), [b"0"], TWO), "2 strides"),
    "a shape of 2^62": (of_2019(state(tensor(shape=hostile.number(2**62) + b"\x85")), [b"0"], TWO), "larger than any"),
    "an empty shape of 2^62": (of_2019(state(tensor(shape=EMPTY, strides=b"K\x01K\x01\x86")), [b"0"], TWO), "larger than any"),
    "nine dimensions": (of_2019(state(tensor(shape=NINE, strides=NINE))), "at most 8"),
    "numbers that are missing": (of_2019(state(tensor()), [b"0"], TWO[:-4]), "truncated"),
    "a storage that is not listed": (of_2019(state(tensor()), [], TWO), "are missing"),
    "a storage that belongs to nothing": (of_2019(state(tensor()), [b"1"], TWO), "belongs to no tensor"),
    "a storage twice": (of_2019(state(tensor()), [b"0", b"0"], TWO * 2), "comes twice"),
    "a storage of another size": (of_2019(state(tensor()), [b"0"], struct.pack("<q", 3) + bytes(12)), "another size"),
    "a storage in two ways": (
        of_2019(state(tensor()) + text(b"y") + tensor(storage(count=b"K\x05")) + b"s", [b"0"], TWO),
        "described in two ways",
    ),
    "a storage of 2^64 numbers": (of_2019(state(tensor(storage(count=b"\x8a\x09" + bytes(8) + b"\1")))), "how many numbers"),
    "an integer of 2000 bits": (of_2019(state(b"\x8a\xff" + bytes(255))), "at most 64"),
    "a storage of minus one": (of_2019(state(tensor(storage(count=b"J\xff\xff\xff\xff")))), "how many numbers"),
    "a part of a storage": (of_2019(state(tensor(storage(rest=b"(K\x00t")))), "part of another"),
    "an unknown storage": (of_2019(state(tensor(storage(kind=b"torch\nQInt8Storage")))), "QInt8Storage"),
    "an executable storage": (of_2019(state(tensor(storage(kind=b"os\nsystem")))), "'os.system'"),
    "a tensor as storage type": (of_2019(state(tensor(storage(kind=b"collections\nOrderedDict")))), "a storage is of"),
    "another object outside": (of_2019(state(text(b"x") + b"Q")), "not a storage"),
    "a path as key": (of_2019(state(tensor(storage(key=b"../../../etc/passwd"))), [b"0"], TWO), "belongs to no tensor"),
    "a key with escapes": (of_2019(state(tensor(storage(key=b"\x1b[2J")))), "unexpected characters"),
    "attributes of a tensor": (of_2019(state(tensor() + state(b"K\x01") + b"b"), [b"0"], TWO), "sets the state"),
    "a class made": (of_2019(state(b"ccollections\nOrderedDict\n)\x81")), "NEWOBJ"),
    "a tensor called": (of_2019(state(tensor() + b")R"), [b"0"], TWO), "it calls Tensor"),
    "a dtype called": (of_2019(state(b"ctorch\nfloat32\n)R")), "it calls torch.float32"),
    "a function of torch": (of_2019(state(b"ctorch\nhub.load\n)R")), r"'torch\.hub\.load'"),
    "a small function of torch": (of_2019(state(b"ctorch\nload\n" + text(b"x") + b"\x85R")), "it calls torch.load"),
    "a quantised tensor": (of_2019(state(b"ctorch._utils\n_rebuild_qtensor\n)R")), "unsupported kind"),
    "a dictionary in itself": (of_2019(b"}q\x00" + text(b"x") + b"h\x00s"), "under a key"),
    "a state dict in itself": (of_2019(b"}q\x00" + text(b"state_dict") + b"h\x00s"), "under a key"),
    "endless lines": (of_2019(b"V\n" * 1_100_000), "more steps"),
    "attributes of an unknown type": (
        of_2019(state(b"ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nOrderedDict\nccollections\nOrderedDict\n)NtR")),
        "of an unknown type",
    ),
    "attributes within attributes": (of_2019(state(nested(5000))), "is made by the name torch._tensor._rebuild_from_type_v2"),
    "endless text": (of_2019(b"U\x00" * 1_100_000), "more steps"),
    "deep lists": (of_2019(b"]" * 300_000 + b"a" * 299_999), "contains a list"),
    "an entry of the memo beyond all": (of_2019(b"}r\xff\xff\xff\x3f"), "memo"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_hostile_file_by_hand_is_refused(name, tmp_path, monkeypatch):
    data, message = BY_HAND[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_pth(tmp_path / "evil.pth")
    refusal(tmp_path / "evil.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"]


def archive(change=lambda name, record: record, **more):
    out, made = io.BytesIO(), io.BytesIO()
    torch.save({"x": torch.arange(100.0)}, out)
    with zipfile.ZipFile(out) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        with warnings.catch_warnings(action="ignore"):  # a name twice
            for name, record in more.items():
                new.writestr(name, record)
    return made.getvalue()


def hidden_directory():
    """A directory of 300,000 names, whose size is stated where only the last bytes of the file tell."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, *[0] * 8, 4, *[0] * 6)
    directory = b"".join(entry + struct.pack("<I", 0x20202020 + number) for number in range(300_000))
    end = bytearray(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 37_856, 37_856, len(directory), 30, 0))
    end[4:8] = b"PK\5\6"
    return b"PK\3\4" + bytes(26) + directory + end


def overlapping():
    """Its directory has each record twice as large as it is, so that they reach into each other."""
    data = archive()
    place = data.index(b"PK\x01\x02", data.index(b"data/0") + 400)
    while (found := data.find(b"PK\x01\x02", place)) >= 0:
        size = struct.pack("<II", 10**6, 10**6)
        data = data[: found + 20] + size + data[found + 28 :]
        place = found + 46
    return data


def changed(ending, record):
    return archive(lambda name, old: record if name.endswith(ending) else old)


def headless():
    """Only its first record has a header."""
    return archive().replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1)


ARCHIVES = {
    "no pickle": (lambda: archive().replace(b"data.pkl", b"data.pk_"), "no data.pkl"),
    "a program": (lambda: archive(**{"archive/constants.pkl": b"N."}), "TorchScript"),
    "another byte order": (lambda: changed("byteorder", b"\x1b[2J"), "byte order"),
    "overlapping records": (overlapping, "overlap"),
    "a record twice": (lambda: archive(**{"archive/data/0": bytes(400)}), "several records of one name"),
    "a record elsewhere": (lambda: archive(**{"0": bytes(400)}), "beside the folder"),
    "a pickle that was changed": (lambda: archive().replace(b"X\1\0\0\0x", b"X\1\0\0\0y"), "checksum"),
    "a directory that lies": (lambda: archive().replace(b"PK\x01\x02", b"PK\x01\x03"), "truncated or damaged"),
    "records without headers": (headless, "truncated or damaged"),
    "a directory of 60,000 names": (lambda: archive(**{f"x/{n:060}": b"" for n in range(60_000)}), "its directory has"),
    "a directory that hides its size": (hidden_directory, "its directory has"),
    "a huge pickle": (lambda: changed("data.pkl", bytes(70_000_000)), "larger than"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_refused(name, tmp_path):
    make, message = ARCHIVES[name]
    path = tmp_path / "evil.pth"
    path.write_bytes(make())
    with pytest.raises(CheckpointError, match=message):
        read_pth(path)
    refusal(path)

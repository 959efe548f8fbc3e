"""VMZ's blobs: each is found, by name, or refused by name; reading takes the memory of the weights."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ig65m.checkpoints.identify import fit
from ig65m.checkpoints.vmz import blob_name, read_vmz, state_dict_keys
from ig65m.errors import CheckpointError
from tests.conftest import GOLDEN


@pytest.fixture(scope="module")
def blobs(tiny):
    with tiny.open("rb") as file:
        return pickle.load(file, encoding="latin1")["blobs"]


@pytest.mark.parametrize("card", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_each_blob_has_one_key_and_back(card):
    shapes = {name: tuple(shape) for name, shape in json.loads((GOLDEN / f"{card}.json").read_text())["blobs"].items()}
    keys = state_dict_keys(shapes)
    spec = fit({key: shapes[name] for name, key in keys.items()})
    assert {blob_name(key, spec): key for key in keys.values()} == keys


# Of each kind of blob one: the stem, a (2+1)-D convolution's halves, a batch norm, a shortcut, the last layer.
NAMES = [
    "conv1_middle_w",
    "conv1_spatbn_relu_rm",
    "comp_2_conv_1_middle_w",
    "comp_2_conv_2_w",
    "comp_1_spatbn_2_middle_riv",
    "comp_3_spatbn_1_s",
    "shortcut_projection_1_w",
    "shortcut_projection_3_spatbn_b",
    "last_out_L11_w",
    "last_out_L11_b",
]


def written(blobs, tmp_path):
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return path


def spoilt(value, place):
    def change(blob):
        blob = blob.astype(np.float64)
        blob.reshape(-1)[place] = value
        return blob

    return change


CHANGES = {
    "empty": (lambda blob: blob[:0], r"\(0"),
    "shorter": (lambda blob: blob[:-1], r"\(\d+"),
    "flat": (lambda blob: blob.reshape(-1)[None], r"\(1, \d+"),
    "whole numbers": (lambda blob: blob.astype(np.int32), "int32"),
    "not a number": (spoilt(np.nan, -1), "not finite"),
    "infinite": (spoilt(-np.inf, 0), "not finite"),
    "beyond float32": (spoilt(1e39, 3), "not finite"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_blob_that_does_not_fit_is_refused_by_name(name, change, blobs, tmp_path):
    spoil, message = CHANGES[change]
    path = written(blobs | {name: spoil(blobs[name])}, tmp_path)
    with pytest.raises(CheckpointError, match=message) as refusal:
        read_vmz(path)
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_blob_is_named(name, blobs, tmp_path):
    path = written({other: blob for other, blob in blobs.items() if other != name}, tmp_path)
    named = "last_out_L" if name == "last_out_L11_w" else "shortcut_projection_1|3 stages" if "1_w" in name else name
    with pytest.raises(CheckpointError, match=named):
        read_vmz(path)


@pytest.mark.parametrize(
    "name",
    ["lr", "_w", "conv1_x", "conv1_w ", "comp_9_conv_1_w", "comp_1000_conv_1_w", "comp_00_conv_1_w", "comp_0_conv_9_w",
     "comp_0_conv_1_b", "shortcut_projection_4_w", "last_out_L12_w", "last_out_L011_w", "pred_logit_x", "a_conv1_w"],
)  # fmt: skip
def test_a_blob_too_many_is_named(name, blobs, tmp_path):
    with pytest.raises(CheckpointError, match=name if "shortcut" not in name else "5 stages"):
        read_vmz(written(blobs | {name: blobs["conv1_w"]}, tmp_path))


@pytest.mark.parametrize("value", [-1e-30, -1])
def test_a_negative_variance_is_refused_by_name(value, blobs, tmp_path):
    path = written(blobs | {"conv1_spatbn_relu_riv": spoilt(value, 5)(blobs["conv1_spatbn_relu_riv"])}, tmp_path)
    with pytest.raises(CheckpointError, match="'conv1_spatbn_relu_riv' contains a negative variance"):
        read_vmz(path)


@pytest.mark.parametrize("channels", [0, 1, 9, 1000])
def test_a_strange_number_of_channels_is_refused(channels, blobs, tmp_path):
    path = written(blobs | {"conv1_middle_w": np.ones((45, channels, 1, 7, 7), np.float32)}, tmp_path)
    with pytest.raises(CheckpointError, match="conv1_middle_w"):
        read_vmz(path)


def test_widths_beyond_any_network_are_refused(blobs, tmp_path):
    wide = {
        "comp_3_conv_2_w": np.zeros((1 << 17, 1, 1, 1, 1), np.float16),
        "last_out_L11_w": np.zeros((11, 1 << 17), np.float16),
    }
    with pytest.raises(CheckpointError, match="131072 channels"):
        read_vmz(written(blobs | wide, tmp_path))


@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_precision_byte_order_and_memory_order_are_read(kind, order, blobs, tmp_path):
    stored = {name: np.array(blob, kind, order=order) for name, blob in blobs.items()}
    arrays, _ = read_vmz(written(stored, tmp_path))
    for name, key in state_dict_keys({name: blob.shape for name, blob in blobs.items()}).items():
        np.testing.assert_array_equal(arrays[key], stored[name].astype(np.float32))
        assert arrays[key].flags.c_contiguous


PEAK = """
import sys
from pathlib import Path
from ig65m.checkpoints.vmz import read_vmz
from ig65m.errors import CheckpointError

def memory(kind):
    return int(Path("/proc/self/status").read_text().partition(kind)[2].split()[0]) * 1024

idle = memory("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
try:
    read_vmz(Path(sys.argv[1]))
except CheckpointError as error:
    print(error, file=sys.stderr)
print(memory("VmHWM:") - idle)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
@pytest.mark.parametrize("kind", ["fortran", "not finite"])
def test_memory_is_at_most_twice_the_files_size(kind, blobs, tmp_path):
    """Half precision is the worst: the weights alone take twice the file; and one blob that is nearly all of it."""
    classes = 400_000
    big = np.zeros((classes, 64), np.float16, order="F" if kind == "fortran" else "C")
    if kind == "not finite":
        big[-1, -1] = np.inf
    tensors = {name: blob for name, blob in blobs.items() if "last" not in name}
    tensors |= {f"last_out_L{classes}_w": big, f"last_out_L{classes}_b": big[:, 0].copy()}
    path = tmp_path / "large.pkl"
    path.write_bytes(pickle.dumps({"blobs": tensors}, protocol=4))
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 * path.stat().st_size + (64 << 20)
    assert ("not finite" in done.stderr) == (kind == "not finite")

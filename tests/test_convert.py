"""ig65m convert: three files, proven; nothing is left where something is wrong."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import ig65m.convert
from ig65m.convert import convert
from ig65m.errors import CheckpointError, ProofError, UsageError
from ig65m.zoo.load import load_model

pytestmark = pytest.mark.slow

LABELS = tuple(f"label {n}" for n in range(11))


def test_the_onnx_file_stands_alone(tiny, tmp_path):
    done = convert(tiny, tmp_path / "tiny", frames=8, labels=LABELS)
    assert done.difference < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.onnx", "tiny.pth", "tiny.safetensors"]
    graph = onnx.load(done.files[2], load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(facts["labels"]) == list(LABELS)
    np.testing.assert_allclose(json.loads(facts["mean"]), [110.201, 100.64, 95.9966])
    np.testing.assert_allclose(json.loads(facts["std"]), [58.1489, 56.4701, 55.3324])
    assert facts["frames"] == "8"
    assert facts["origin"] == "converted from tiny_r2plus1d_10.pkl"
    assert not any(node.op_type == "BatchNormalization" for node in graph.graph.node)
    assert str(ig65m.convert.__file__).encode() not in done.files[2].read_bytes()


def test_every_axis_of_the_onnx_file_is_free(tiny, tmp_path):
    done = convert(tiny, tmp_path / "tiny")
    session = onnxruntime.InferenceSession(done.files[2], providers=["CPUExecutionProvider"])
    model = load_model(tiny)
    for shape in ((1, 3, 8, 112, 112), (3, 3, 11, 50, 90), (2, 3, 32, 33, 31)):
        clips = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            wanted = model(clips).numpy()
        got = session.run(["logits"], {"clips": clips.numpy()})[0]
        assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):  # another graph: no wrong numbers
        session.run(["logits"], {"clips": np.zeros((1, 3, 7, 32, 32), np.float32)})


@pytest.mark.parametrize("frames", [2, 6])
def test_a_network_for_short_clips_is_exported_for_those(tiny, tmp_path, frames):
    done = convert(tiny, tmp_path / "short", frames=frames)
    assert done.difference < 1e-5
    (clips,) = onnx.load(done.files[2]).graph.input
    assert [axis.dim_value for axis in clips.type.tensor_type.shape.dim] == [0, 3, frames, 0, 0]


def test_what_the_checkpoint_does_not_tell_stays_unknown(tiny, tmp_path):
    card = convert(tiny, tmp_path / "tiny").card
    assert (card.frames, card.labels, card.spec.classes) == (None, None, 11)


def test_arguments_that_contradict_the_checkpoint_are_refused(tiny, tmp_path):
    with pytest.raises(UsageError, match="11 classes, not 400"):
        convert(tiny, tmp_path / "tiny", classes=400)
    with pytest.raises(UsageError, match="2 labels for the 11 classes"):
        convert(tiny, tmp_path / "tiny", labels=("a", "b"))
    for frames in (0, -1):
        with pytest.raises(UsageError, match="from 1 to 10000"):
            convert(tiny, tmp_path / "tiny", frames=frames)
    with pytest.raises(UsageError, match="0 labels"):
        convert(tiny, tmp_path / "tiny", labels=())
    with pytest.raises(UsageError, match="is not a file name"):
        convert(tiny, tmp_path / "..")
    assert list(tmp_path.iterdir()) == []


def test_files_in_the_way_are_kept(tiny, tmp_path):
    (tmp_path / "tiny.pth").write_text("precious")
    with pytest.raises(UsageError, match=r"tiny\.pth"):
        convert(tiny, tmp_path / "tiny")
    assert (tmp_path / "tiny.pth").read_text() == "precious"
    (tmp_path / "other.onnx").mkdir()
    with pytest.raises(UsageError, match=r"other\.onnx is a folder"):
        convert(tiny, tmp_path / "other", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.onnx", "tiny.pth"]


def test_the_checkpoint_is_never_overwritten(tiny, tmp_path):
    model = load_model(tiny)
    torch.save(model.state_dict(), tmp_path / "m.pth")
    (tmp_path / "hard.pth").hardlink_to(tmp_path / "m.pth")
    (tmp_path / "soft.pth").symlink_to("m.pth")
    for checkpoint, out in (("m.pth", "m"), ("m.pth", "m.pth"), ("m.pth", "hard"), ("m.pth", "soft"), ("soft.pth", "m")):
        with pytest.raises(UsageError, match="is the checkpoint itself"):
            convert(tmp_path / checkpoint, tmp_path / out, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hard.pth", "m.pth", "soft.pth"]


def test_files_in_the_way_are_named_before_the_checkpoint_is_read(tmp_path):
    (tmp_path / "x.onnx").touch()
    with pytest.raises(UsageError, match=r"x\.onnx already exists"):
        convert(tmp_path / "none.pkl", tmp_path / "x")
    with pytest.raises(UsageError, match="cannot write to /proc"):
        convert(tmp_path / "none.pkl", Path("/proc/x"))


@pytest.mark.parametrize("room", [1000, 100_000, 1_000_000])
def test_a_full_disk_is_an_error_of_the_system_and_leaves_no_folder(tiny, tmp_path, room):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(OSError, match="File too large") as caught:
            convert(tiny, tmp_path / "new" / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(tmp_path) in caught.value.filename
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_is_another_function_is_not_kept(tiny, tmp_path, monkeypatch):
    def wrong(weights, path):
        bias = weights.arrays["fc.bias"].copy()
        bias[3] += 0.01
        real(replace(weights, arrays=weights.arrays | {"fc.bias": bias}), path)

    real = ig65m.convert.export_onnx
    monkeypatch.setattr(ig65m.convert, "export_onnx", wrong)
    with pytest.raises(ProofError, match="differs from the checkpoint"):
        convert(tiny, tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_checkpoint_leaves_nothing(tiny, tmp_path):
    cut = tmp_path / "cut.pkl"
    cut.write_bytes(tiny.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        convert(cut, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [cut]

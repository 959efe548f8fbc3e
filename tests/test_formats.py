"""Features on disk, read back by numpy, json and pyarrow alone."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ig65m.errors import UsageError
from ig65m.store.features import Features, check_file, save
from ig65m.store.names import is_file_name
from ig65m.types import ClipSpan, Failure

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)
SPANS = (ClipSpan(0.0, 0.32, 0, 7), ClipSpan(0.32, 0.64, 8, 15), ClipSpan(0.64, 0.7, 16, 17))
LOGITS = np.arange(6, dtype=np.float32).reshape(3, 2)
FEATURES = Features("a.mp4", "ok", ARRAY, SPANS, {"name": "tiny", "sha256": "00"}, LOGITS)


def test_npy_has_a_description_beside_it(tmp_path):
    save(FEATURES, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ARRAY)
    np.testing.assert_array_equal(np.load(tmp_path / "a.logits.npy"), LOGITS)
    info = json.loads((tmp_path / "a.json").read_text())
    assert info["spans"] == [[0.0, 0.32], [0.32, 0.64], [0.64, 0.7]]
    assert info["frames"] == [[0, 7], [8, 15], [16, 17]]
    assert info["model"] == {"name": "tiny", "sha256": "00"}
    assert (info["path"], info["status"], info["error"], info["shape"]) == ("a.mp4", "ok", None, [4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.logits.npy", "a.npy"]


def test_npz_holds_everything(tmp_path):
    save(FEATURES, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["features"], ARRAY)
        np.testing.assert_array_equal(file["spans"], [[0.0, 0.32], [0.32, 0.64], [0.64, 0.7]])
        np.testing.assert_array_equal(file["frames"], [[0, 7], [8, 15], [16, 17]])
        np.testing.assert_array_equal(file["logits"], LOGITS)
        assert json.loads(str(file["info"]))["model"]["name"] == "tiny"


def test_parquet_is_a_row_a_clip(tmp_path):
    save(FEATURES, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("features").type.list_size == 4
    assert table.to_pydict() == {
        "start": [0.0, 0.32, 0.64],
        "end": [0.32, 0.64, 0.7],
        "first_frame": [0, 8, 16],
        "last_frame": [7, 15, 17],
        "features": ARRAY.tolist(),
        "logits": LOGITS.tolist(),
    }
    assert json.loads(table.schema.metadata[b"ig65m"])["shape"] == [4]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_unpooled_and_empty_features_are_written_too(tmp_path, suffix):
    maps = np.arange(48, dtype=np.float32).reshape(3, 4, 1, 2, 2)
    save(Features("a", "partial", maps, SPANS, error=Failure("decode", "broke off", 0.7)), tmp_path / f"a{suffix}")
    save(Features("b", "ok", np.zeros((0, 4), np.float32), ()), tmp_path / f"b{suffix}")
    if suffix == ".parquet":
        rows = pq.read_table(tmp_path / "a.parquet").column("features").to_pylist()
        np.testing.assert_array_equal(np.array(rows).reshape(maps.shape), maps)


def full_disk(path, data):
    """A disk with room for half of each array."""
    with path.open("wb") as file:
        file.write(data if path.suffix == ".json" or len(data) < 150 else data[: len(data) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_three_files_are_replaced_together_or_not_at_all(tmp_path, monkeypatch):
    save(FEATURES, tmp_path / "a.npy")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(replace(FEATURES, path="b.mp4"), tmp_path / "a.npy")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    save(FEATURES, tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.npz'"):
        save(FEATURES, tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("output", "is_file"),
    [("f.npz", True), ("x/f.npy", True), ("f.parquet", True), ("folder", False), ("results.v2/", False), ("made.npz", False)],
)
def test_a_file_or_a_folder(tmp_path, monkeypatch, output, is_file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.npz").mkdir()
    assert is_file_name(output) == is_file
    assert [path.name for path in tmp_path.iterdir()] == ["made.npz"]


@pytest.mark.parametrize(
    ("output", "said"), [("f.csv", r"\.npy, \.npz, \.parquet"), ("results.v2", "must end in /"), ("", "no name")]
)
def test_an_output_that_is_neither(output, said):
    with pytest.raises(UsageError, match=said):
        is_file_name(output)


def test_one_file_is_for_one_video(tmp_path):
    with pytest.raises(UsageError, match="2 inputs"):
        check_file(tmp_path / "f.npz", ["a.mp4", "b.mp4"])


@pytest.mark.parametrize("present", ["a.npy", "a.json", "a.logits.npy"])
def test_nothing_that_is_there_is_overwritten_unasked(tmp_path, present):
    (tmp_path / present).touch()
    with pytest.raises(UsageError, match=f"{present} already exists"):
        check_file(tmp_path / "a.npy", ["a.mp4"])
    check_file(tmp_path / "a.npy", ["a.mp4"], overwrite=True)


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "b.logits.npy").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_file(tmp_path / "b.npy", ["b.mp4"], overwrite=True)


def test_logits_of_an_earlier_run_do_not_stay(tmp_path):
    save(FEATURES, tmp_path / "a.npy")
    save(replace(FEATURES, logits=None), tmp_path / "a.npy")
    assert not (tmp_path / "a.logits.npy").exists()


def test_a_folder_is_made_when_there_is_something_to_write(tmp_path):
    save(FEATURES, tmp_path / "new" / "deep" / "a.npz")
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["a.npz"]


def test_places_where_nothing_can_be_written_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for output, message in (
        (tmp_path / "file" / "x.npy", "file is not a folder"),
        (tmp_path / "dangling" / "x.npy", "dangling is not a folder"),
        ("/dev/null/x.npy", "/dev/null is not a folder"),
        ("/proc/x.npy", "cannot write to /proc"),
        (tmp_path / ("x" * 300) / "x.npy", "300 bytes; choose a name of at most"),
        (tmp_path / ("x" * 246 + ".npy"), "257 bytes"),  # of .logits.npy
    ):
        with pytest.raises(UsageError, match=message):
            check_file(Path(output), ["a.mp4"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_no_input_is_overwritten_by_whatever_name(tmp_path):
    video = tmp_path / "video.npy"
    video.write_bytes(b"a video")
    (tmp_path / "link.npz").symlink_to(video)
    (tmp_path / "hard.parquet").hardlink_to(video)
    for output in (video, tmp_path / "link.npz", tmp_path / "hard.parquet"):
        with pytest.raises(UsageError, match="is one of the inputs"):
            check_file(output, [str(video)], overwrite=True)
    with pytest.raises(UsageError, match="is one of the inputs"):
        check_file(video, [str(tmp_path / "link.npz")], overwrite=True)

"""Exported features of a video of which damage has cost clips: rows keep their place, or the video is left out."""

import json

import h5py
import numpy as np
import pytest

from ig65m.store.features import Features, load
from ig65m.store.folder import Store, read_journal, result_name
from ig65m.types import ClipSpan, Failure, Segment


@pytest.fixture
def gappy(tmp_path):
    """A folder with two videos of 10 clips of 8 frames at 25 a second; damage has cost clips 0, 4 and 5 of one of them."""
    settings = {"name": "net", "sha256": "0" * 64, "pooling": {"spatial": "mean", "temporal": "mean"}, "features": "float32"}
    sampling = {"frames": 8, "frame_step": 1, "stride": None, "fps": None, "starts": None, "tail": "pad"}
    with Store(tmp_path / "gappy", settings) as store:
        for name, rows in (("whole", range(10)), ("damaged", [1, 2, 3, 6, 7, 8, 9])):
            spans = tuple(ClipSpan(row * 0.32, (row + 1) * 0.32, row * 8, row * 8 + 7) for row in rows)
            array = np.array([[row + 1.0] * 4 for row in rows], np.float32)
            error = None if name == "whole" else Failure("decode", "damage", 3.2, ((0.1, 0.2), (1.3, 1.9)))
            status = "ok" if error is None else "partial"
            video = Segment(str(tmp_path / f"{name}.mp4"))
            assert store.claim(result_name(video))
            store.commit(video, "content", Features(video.path, status, array, spans, {"sampling": sampling}, error=error))
    return tmp_path / "gappy"


@pytest.mark.parametrize("kind", ["actionformer", "opentad", "tsp"])
def test_gaps_do_not_shift_rows(kind, gappy, tmp_path, run):
    def stored(target):
        if kind == "tsp":
            with h5py.File(target) as file:
                return {name: file[name][:] for name in file}
        return {path.stem: np.load(path) for path in (target / "features").glob("*.npy")}

    suffix = ".h5" if kind == "tsp" else ""
    code, _, err = run("features", "export", gappy, tmp_path / f"left{suffix}", "--to", kind)
    assert (code, "3 of its 10 clips are lost to damage" in err) == (3, True)
    assert list(stored(tmp_path / f"left{suffix}")) == ["whole"]
    code, _, err = run("features", "export", gappy, tmp_path / f"zeros{suffix}", "--to", kind, "--gaps", "zeros")
    assert (code, "3 rows are zeros in place of clips" in err) == (0, True)
    assert stored(tmp_path / f"zeros{suffix}")["damaged"][:, 0].tolist() == [0, 2, 3, 4, 0, 0, 7, 8, 9, 10]


def test_formats_with_times_keep_the_rows_there_are_and_tell_the_gaps(gappy, tmp_path, run):
    assert run("features", "export", gappy, tmp_path / "out.h5", "--to", "h5")[0] == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["damaged"].attrs["gaps"].tolist() == [[0.1, 0.2], [1.3, 1.9]]
        assert file["damaged"].attrs["first_frame"].tolist() == [8, 16, 24, 48, 56, 64, 72]
        assert file["whole"].attrs["gaps"].shape == (0, 2)
    assert run("features", "export", gappy, tmp_path / "out", "--to", "npz")[0] == 0
    info = json.loads(str(np.load(tmp_path / "out" / "damaged.npz")["info"]))
    assert info["error"]["gaps"] == [[0.1, 0.2], [1.3, 1.9]]
    assert load(tmp_path / "out" / "damaged.npz").error.gaps == ((0.1, 0.2), (1.3, 1.9))
    (entry,) = (entry for entry in read_journal(gappy) if entry.status == "partial")
    assert entry.error.gaps == ((0.1, 0.2), (1.3, 1.9))

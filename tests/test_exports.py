"""Exported features, read as the programs that they are for read them: their readers' steps, after their sources.

ActionFormer: libs/datasets/thumos14.py, anet.py, modeling/meta_archs.py. OpenTAD: datasets/base.py, transforms/loading.py.
video_features: utils/utils.py. QVHighlights: moment_detr/start_end_dataset.py. TSP: its merged file, as ActionFormer's anet.py.
"""

import json
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from ig65m.store.features import read_parquet
from ig65m.store.folder import read_journal
from tests.conftest import PROGRAM
from tests.videos import encode, numbered

pytestmark = pytest.mark.slow


def film(path, count, rate=Fraction(25), start=0):
    """Of `count` frames, `rate` a second; the first at tick `start`."""
    return encode(path, [numbered(i % 256) for i in range(count)], [start + i for i in range(count)], time_base=1 / rate)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    film(folder / "one.mp4", 170)
    film(folder / "two.mp4", 33, Fraction(30000, 1001))
    film(folder / "three.mp4", 5, Fraction(10))
    return folder


@pytest.fixture(scope="module")
def extracted(films, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extracted") / "features"
    command = [PROGRAM, "extract", films, "--output", folder, "--model", tiny_model, "--stride", "3"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def features(extracted, tmp_path):
    """A copy of its own for each test."""
    return Path(shutil.copytree(extracted, tmp_path / "features"))


def rows(folder):
    """By stem: the rows and the centres of whole clips, in seconds, of each video in a folder of features."""
    found = {}
    for entry in read_journal(folder):
        if entry.sha256 is not None:
            features, _ = read_parquet(folder / "features" / f"{entry.name}.parquet")
            frames = features.model["sampling"]["frames"]
            whole = [span.last_frame - span.first_frame + 1 == frames for span in features.spans]
            centres = np.array([(span.start + span.end) / 2 for span in features.spans])
            found[entry.video.path.rpartition("/")[2].partition(".")[0]] = features.array, centres, np.array(whole)
    return found


def close(times, centres, whole):
    """To 1 ms where a clip is whole; a short one at the end is centred where a whole one would be."""
    assert len(times) == len(centres)
    return np.allclose(times[whole], centres[whole], rtol=0, atol=1e-3) and (times[~whole] > centres[~whole]).all()


def settings(out):
    return {name: json.loads(value) for name, _, value in (line.partition(": ") for line in out.splitlines()[1:])}


def actionformer(folder, video, config):
    said = json.loads((folder / "annotations.json").read_text())["database"][video]
    assert said["subset"].lower() in ["validation"]
    fps = config["default_fps"] if config["default_fps"] is not None else said["fps"]
    array = np.load(folder / "features" / (config["file_prefix"] + video + config["file_ext"])).astype(np.float32)
    array = array[:: config["downsample_rate"], :]
    stride = config["feat_stride"] * config["downsample_rate"]
    offset = 0.5 * config["num_frames"] / stride
    assert said["annotations"] == []
    return array, (np.arange(len(array)) + offset) * stride / fps, said["duration"]


def test_actionformer(features, tmp_path, run):
    code, out, err = run("features", "export", features, tmp_path / "out", "--to", "actionformer", "--prefix", "v_")
    assert code == 0, err
    config = settings(out)
    assert (config["feat_stride"], config["num_frames"]) == (3, 8)
    lengths = {"one": 170 / 25, "two": 33 * 1.001 / 30, "three": 0.5}
    for video, (wanted, centres, whole) in rows(features).items():
        array, times, duration = actionformer(tmp_path / "out", video, config)
        np.testing.assert_array_equal(array, wanted)
        assert close(times, centres, whole)
        assert duration == pytest.approx(lengths[video], abs=1e-3)


def opentad(folder, video, config):
    data = folder / "features"
    assert video not in (data / "missing_files.txt").read_text().split("\n")
    said = json.loads((folder / "annotations.json").read_text())["database"][video]
    array = np.load(data / f"{config['prefix']}{video}.npy").astype(np.float32)[:: config["sample_stride"]]
    stride, offset = int(config["feature_stride"] * config["sample_stride"]), int(config["offset_frames"])
    fps = said["frame"] / said["duration"]
    return array, (np.arange(len(array)) * stride + offset) / fps


@pytest.mark.parametrize("frame_step", [1, 2])
def test_opentad(films, tiny_model, tmp_path, run, frame_step):
    """With steps of 2 frames a clip of 8 spans 15, half of which is no whole number."""
    folder = tmp_path / "features"
    (tmp_path / "none.mp4").touch()
    run("extract", films, tmp_path / "none.mp4", "--output", folder, "--model", tiny_model, "--frame-step", frame_step)
    code, out, err = run("features", "export", folder, tmp_path / "out", "--to", "opentad")
    assert code == 0
    assert "none.mp4 failed" in err
    found = rows(folder)
    assert len(found) == 3
    for video, (wanted, centres, _) in found.items():
        array, times = opentad(tmp_path / "out", video, settings(out))
        np.testing.assert_array_equal(array, wanted)
        full = np.arange(len(array)) < len(array) - 1
        assert np.allclose(times[full], centres[full], rtol=0, atol=1e-3)
    assert (tmp_path / "out" / "features" / "missing_files.txt").read_text().split("\n") == ["none"]


def test_video_features(features, tmp_path, run):
    code, _, err = run("features", "export", features, tmp_path / "out", "--to", "video-features")
    assert code == 0, err
    for video, (wanted, _, _) in rows(features).items():
        np.testing.assert_array_equal(np.load(tmp_path / "out" / f"{video}_r21d.npy"), wanted)
    assert len(list((tmp_path / "out").iterdir())) == 3


def qvhighlights(folder, video, most=75):
    array = np.load(folder / f"{video}.npz")["features"][:most].astype(np.float32)
    array = array / (np.linalg.norm(array, axis=-1, keepdims=True) + 1e-5)
    edges = np.arange(len(array)) / len(array)
    return array, 2 * len(array) * (edges + 0.5 / len(array))


def test_qvhighlights(films, features, tiny_model, tmp_path, run):
    code, _, err = run("features", "export", features, tmp_path / "bad", "--to", "qvhighlights")
    assert code == 3
    assert "extract with --fps 4 --frame-step 1" in err
    assert not list((tmp_path / "bad").glob("*.npz")) if (tmp_path / "bad").exists() else True
    folder = tmp_path / "by two seconds"
    film(tmp_path / "long.mp4", 160, Fraction(1))
    run("extract", films, tmp_path / "long.mp4", "--output", folder, "--model", tiny_model, "--fps", 4, "--frame-step", 1)
    code, _, err = run("features", "export", folder, tmp_path / "out", "--to", "qvhighlights")
    assert code == 0, err
    assert "has 80 rows; these readers use the first 75" in err
    counts = {"one": 4, "two": 1, "three": 1, "long": 80}
    for video, (wanted, _, _) in rows(folder).items():
        array, times = qvhighlights(tmp_path / "out", video, most=80)
        assert len(array) == counts[video]
        np.testing.assert_allclose(array, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-4)
        assert np.allclose(times, 2 * np.arange(len(array)) + 1)


def tsp(path, video, config):
    with h5py.File(path) as file:
        assert all(isinstance(each, h5py.Dataset) and each.ndim == 2 for each in file.values())
        array = file[config["file_prefix"] + video][()].astype(np.float32)
    return array, (np.arange(len(array)) * config["feat_stride"] + 0.5 * config["num_frames"]) / config["default_fps"]


def test_tsp(films, features, tiny_model, tmp_path, run):
    code, _, err = run("features", "export", features, tmp_path / "bad.h5", "--to", "tsp")
    assert code == 3
    assert "this format has one rate for all; extract with --fps 15" in err
    folder = tmp_path / "at 15"
    run("extract", films, "--output", folder, "--model", tiny_model, "--fps", 15)
    code, out, err = run("features", "export", folder, tmp_path / "tsp_features.hdf5", "--to", "tsp", "--prefix", "v_")
    assert code == 0, err
    assert settings(out) == {"feat_stride": 8, "num_frames": 8, "default_fps": 15.0, "file_prefix": "v_"}
    for video, (wanted, centres, whole) in rows(folder).items():
        array, times = tsp(tmp_path / "tsp_features.hdf5", video, settings(out))
        np.testing.assert_array_equal(array, wanted)
        assert np.allclose(times[whole], centres[whole], atol=1 / 10)  # a frame may have been on display for a while


def test_h5(features, tmp_path, run):
    code, _, err = run("features", "export", features, tmp_path / "all.h5", "--to", "h5")
    assert code == 0, err
    with h5py.File(tmp_path / "all.h5") as file:
        assert sorted(file) == ["one", "three", "two"]
        for video, (wanted, centres, _) in rows(features).items():
            np.testing.assert_array_equal(file[video][:], wanted)
            assert np.allclose((file[video].attrs["start"] + file[video].attrs["end"]) / 2, centres)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_files_with_times(features, tmp_path, run, suffix):
    code, _, err = run("features", "export", features, tmp_path / "out", "--to", suffix)
    assert code == 0, err
    for video, (wanted, centres, _) in rows(features).items():
        if suffix == "npz":
            file = np.load(tmp_path / "out" / f"{video}.npz")
            array, spans = file["features"], file["spans"]
        else:
            array = np.load(tmp_path / "out" / f"{video}.npy")
            spans = np.array(json.loads((tmp_path / "out" / f"{video}.json").read_text())["spans"])
        np.testing.assert_array_equal(array, wanted)
        assert np.allclose(spans.mean(axis=1), centres)


def test_times_that_no_grid_has_are_refused(tiny_model, tmp_path, run):
    uneven = [0, 40, 80, 95, 160, 200, 240, 280, 320, 380, 400, 440, 480, 520, 560, 600, 640, 680]
    encode(tmp_path / "uneven.mp4", [numbered(i) for i in range(18)], uneven)
    encode(tmp_path / "late.mp4", [numbered(i) for i in range(18)], [1000 + 40 * i for i in range(18)])
    film(tmp_path / "even.mp4", 18)
    folder = tmp_path / "features"
    run("extract", *tmp_path.glob("*.mp4"), "--output", folder, "--model", tiny_model, "--stride", 1)
    code, out, err = run("features", "export", folder, tmp_path / "a", "--to", "actionformer", "--json")
    assert code == 3
    assert json.loads(out)["written"] == 1
    assert "uneven.mp4: clip" in err
    assert "ms off an even grid" in err
    assert "late.mp4: its first clip starts at 1.000 s" in err
    code, out, err = run("features", "export", folder, tmp_path / "b", "--to", "actionformer", "--from-first-frame", "--json")
    assert code == 3
    assert json.loads(out)["written"] == 2


def test_names_that_are_not_unique(films, tiny_model, tmp_path, run):
    (tmp_path / "other").mkdir()
    film(tmp_path / "other" / "one.mp4", 9)
    run("extract", films, tmp_path / "other", "--output", tmp_path / "f", "--model", tiny_model)
    code, _, err = run("features", "export", tmp_path / "f", tmp_path / "out", "--to", "npy")
    assert code == 2
    assert "have the same name; use --names unique" in err
    assert run("features", "export", tmp_path / "f", tmp_path / "out", "--to", "npy", "--names", "unique")[0] == 0
    assert len(list((tmp_path / "out").glob("*.npy"))) == 4


def test_odd_names(films, tiny_model, tmp_path, run):
    for name in ("new\nline.mp4", os.fsdecode(b"caf\xe9.mp4"), "plain.mp4"):
        (tmp_path / name).touch()
    shutil.copy(films / "one.mp4", tmp_path / "sepa\u2028rated.mp4")
    folder = tmp_path / "features"
    assert run("extract", tmp_path, "--output", folder, "--model", tiny_model)[0] == 3
    code, _, err = run("features", "export", folder, tmp_path / "out", "--to", "opentad")
    assert code == 0, err
    assert (tmp_path / "out" / "features" / "missing_files.txt").read_text("utf-8").split("\n") == ["plain"]
    assert all(line.startswith("ig65m: ") for line in err.splitlines())
    assert run("features", "export", folder, tmp_path / "out.h5", "--to", "h5")[0] == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["sepa\u2028rated"]
    shutil.copy(films / "one.mp4", tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    run("extract", tmp_path, "--output", folder, "--model", tiny_model)
    code, _, err = run("features", "export", folder, tmp_path / "no.h5", "--to", "h5")
    assert (code, "a name in HDF5 must be UTF-8 without /" in err) == (3, True)
    with h5py.File(tmp_path / "no.h5") as file:  # one bad name does not end an export
        assert list(file) == ["sepa\u2028rated"]
    assert run("features", "export", folder, tmp_path / "unique.h5", "--to", "h5", "--names", "unique")[0] == 0
    with h5py.File(tmp_path / "unique.h5") as file:
        names = [dataset.attrs["path"].rpartition("/")[2] for dataset in file.values()]
    assert names == ["caf\\udce9.mp4", "sepa\u2028rated.mp4"]


def test_nothing_is_overwritten_and_nothing_else_is_taken(features, tmp_path, run):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").touch()
    code, _, err = run("features", "export", features, tmp_path / "there", "--to", "npy")
    assert (code, "already exists" in err) == (2, True)
    code, _, err = run("features", "export", tmp_path / "there", tmp_path / "x", "--to", "npy")
    assert (code, "is not a folder of features" in err) == (2, True)
    code, _, err = run("features", "export", features, tmp_path / "x", "--to", "csv")
    assert (code, "is not one of 'npy', 'npz', 'h5'" in err) == (2, True)
    code, _, err = run("features", "export", features, tmp_path / "x", "--to", "tsp")
    assert (code, "end in .h5 or .hdf5" in err) == (2, True)


def test_info_and_verify(features, run):
    code, out, _ = run("features", "info", features, "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["videos"], said["clips"]) == ({"ok": 3, "partial": 0, "failed": 0}, 55 + 10 + 1)
    assert run("features", "verify", features)[0] == 0
    first, second, _ = sorted((features / "features").iterdir())
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    second.unlink()
    (features / "features" / "stray.parquet").touch()
    code, out, _ = run("features", "verify", features)
    assert code == 3
    assert f"{first.name} was changed" in out
    assert f"{second.name} is missing" in out
    assert "stray.parquet is not in the journal" in out
    assert "1 of 3 results are sound" in out


def test_a_backslash_in_a_video_s_name_is_a_letter_like_others(tmp_path, tiny_model, run):
    (tmp_path / "videos").mkdir()
    videos = film(tmp_path / "videos" / "a\\b.mp4", 40).parent
    folder = tmp_path / "features"
    for _ in range(2):
        code, _, err = run("extract", videos, "--output", folder, "--model", tiny_model)
        assert code == 0, err
    assert run("features", "verify", folder)[0] == 0
    for kind in ("npy", "opentad"):
        code, _, err = run("features", "export", folder, tmp_path / kind, "--to", kind)
        assert code == 0, err
    assert (tmp_path / "npy" / "a\\b.npy").exists()


@pytest.mark.parametrize("kind", ["npy", "npz", "video-features", "actionformer", "opentad", "qvhighlights"])
@pytest.mark.parametrize("option", ["--prefix", "--key"])
@pytest.mark.parametrize("value", ["../x", "/tmp/x", "a/b", "a\\b", "x" * 300])
def test_nothing_is_written_outside_the_output(kind, option, value, features, tmp_path, run):
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("features", "export", features, tmp_path / "out" / "deep", "--to", kind, option, value)
    assert code == 2
    assert "becomes part of a file's name" in err or "too long" in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "", "..", "x" * 300])
def test_names_in_a_journal_are_checked(name, features, tmp_path, run):
    journal = features / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    lines[1]["name"] = name
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for command in (["export", features, tmp_path / "out", "--to", "npy"], ["verify", features], ["info", features]):
        code, _, err = run("features", *command)
        assert (code, "journal.jsonl, line 2" in err) == (2, True)


def test_a_journal_that_is_no_text_is_reported_with_its_line(features, run):
    journal = features / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + b"\xff\xfe\n" + b"".join(lines[1:]))
    code, _, err = run("features", "verify", features)
    assert (code, "journal.jsonl, line 2" in err) == (2, True)


@pytest.mark.parametrize(("option", "value", "nearest"), [("--names", "uniqe", "unique"), ("--gaps", "zero", "zeros")])
def test_a_misspelt_choice_is_refused(option, value, nearest, features, tmp_path, run):
    code, _, err = run("features", "export", features, tmp_path / "out", "--to", "npy", option, value)
    assert (code, f"did you mean '{nearest}'" in err) == (2, True)


@pytest.mark.parametrize("kind", ["npy", "h5", "video-features", "actionformer", "opentad", "tsp"])
def test_a_damaged_result_costs_its_video_only(kind, features, tmp_path, run):
    (path,) = (features / "features").glob("two-*.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    target = tmp_path / ("out.h5" if kind in ("h5", "tsp") else "out")
    code, out, err = run("features", "export", features, target, "--to", kind, "--json")
    assert (code, path.name in err) == (3, True)
    assert json.loads(out)["written"] == (1 if kind == "tsp" else 2)


def test_two_videos_that_would_share_a_file(films, tiny_model, tmp_path, run):
    """The logits of one video are named as the features of another."""
    for name in ("a.mp4", "a.logits.mp4"):
        shutil.copy(films / "three.mp4", tmp_path / name)
    folder = tmp_path / "features"
    assert run("extract", tmp_path, "--output", folder, "--model", tiny_model, "--logits")[0] == 0
    code, _, err = run("features", "export", folder, tmp_path / "out", "--to", "npy")
    assert (code, "another video has the same name; use --names unique" in err) == (3, True)
    assert run("features", "export", folder, tmp_path / "unique", "--to", "npy", "--names", "unique")[0] == 0

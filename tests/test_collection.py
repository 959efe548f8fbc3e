"""A folder of features loses nothing: killed, stopped, shared, resumed, filled up, with broken inputs."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ig65m
import ig65m.cli
from ig65m.store import folder as store_folder
from ig65m.store.features import read_parquet
from ig65m.store.folder import read_journal
from tests.conftest import PROGRAM
from tests.videos import encode, numbered

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(folder, wanted):
    """The same result files to the byte, the same lines in the journal, each once, and nothing else in the folder."""
    here, there = files(folder), files(wanted)
    lines, wanted_lines = (each.pop("journal.jsonl").splitlines() for each in (here, there))
    assert sorted(lines) == sorted(wanted_lines)
    assert here == there


def test_a_row_a_clip_with_times_frames_and_values(undisturbed, videos, tiny_model):
    """What one video alone gives, and the numbers of frames by their definition."""
    entries = {entry.video.path: entry for entry in read_journal(undisturbed)}
    assert len(entries) == 30
    for name in ("v07.mp4", "sub/v00.mp4"):
        alone = ig65m.extract(videos / name, model=tiny_model)
        table = pq.read_table(undisturbed / "features" / f"{entries[str(videos / name)].name}.parquet")
        assert np.array_equal(np.stack(table["features"].to_numpy()), alone.array)
        assert table["start"].to_pylist() == [span.start for span in alone.spans]
        count = 5 + 7 * (7 if name == "v07.mp4" else 29) % 46
        assert table["first_frame"].to_pylist() == list(range(0, count, 8))
        assert table["last_frame"].to_pylist() == [min(first + 7, count - 1) for first in range(0, count, 8)]
        assert np.allclose(table["start"], np.array(table["first_frame"]) * 0.04)
        assert np.allclose(table["end"], (np.array(table["last_frame"]) + 1) * 0.04)
    for entry in entries.values():
        data = (undisturbed / "features" / f"{entry.name}.parquet").read_bytes()
        assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_killed_at_a_random_moment_it_is_as_if_it_had_not_been(undisturbed, videos, tiny_model, tmp_path):
    """The kill comes after a random number of videos and a little later; tests/test_kill.py kills before each step."""
    folder, seed = tmp_path / "features", random.randrange(1 << 30)
    chance = random.Random(seed)
    command = [PROGRAM, "extract", videos, "--output", folder, "--model", tiny_model]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, least = folder / "journal.jsonl", chance.randrange(1, 20)
    while not journal.exists() or len(journal.read_bytes().splitlines()) < least:
        assert process.poll() is None, f"seed {seed}"
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.1))
    process.kill()
    process.wait()
    before = len(read_journal(folder))
    assert least <= before < 30, f"seed {seed}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    assert f"{before} of them done before" in done.stdout, f"seed {seed}"
    same(folder, undisturbed)


def test_a_result_that_the_journal_lacks_is_adopted(undisturbed, videos, tiny_model, tmp_path, run, monkeypatch):
    """Killed between the renaming and the journal; half a line of the journal, too."""
    folder = tmp_path / "features"
    shutil.copytree(undisturbed, folder)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:-3]) + lines[-2][:40])
    (folder / "features" / ".ig65m-1234.part").write_bytes(b"half")
    monkeypatch.setattr(store_folder, "finished_file", None)  # nothing is written again
    code, out, err = run("extract", videos, "--output", folder, "--model", tiny_model)
    assert code == 0, err
    assert "30 of them done before" in out
    same(folder, undisturbed)


def test_what_changed_is_done_again_and_what_is_damaged_or_gone_too(undisturbed, videos, tiny_model, tmp_path, run):
    ours = tmp_path / "videos"
    shutil.copytree(videos, ours)
    folder = tmp_path / "features"
    assert run("extract", ours, "--output", folder, "--model", tiny_model)[0] == 0
    by_path = {entry.video.path: entry for entry in read_journal(folder)}
    first = files(folder)
    shutil.copy(ours / "v05.mp4", ours / "v01.mp4")  # other content under the same name
    os.utime(ours / "v02.mp4")  # touched, not changed
    short = folder / "features" / f"{by_path[str(ours / 'v03.mp4')].name}.parquet"
    short.write_bytes(short.read_bytes()[:-1])
    (folder / "features" / f"{by_path[str(ours / 'v04.mp4')].name}.parquet").unlink()
    code, out, err = run("extract", ours, "--output", folder, "--model", tiny_model, "--json")
    assert code == 0, err
    made = sorted(Path(each["path"]).name for each in json.loads(out)["videos"] if each["made"])
    assert made == ["v01.mp4", "v03.mp4", "v04.mp4"]
    now = files(folder)
    changed = {name for name in now if now[name] != first.get(name)} - {"journal.jsonl"}
    assert changed == {f"features/{by_path[str(ours / 'v01.mp4')].name}.parquet"}
    features, _ = read_parquet(folder / changed.pop())
    np.testing.assert_array_equal(features.array, ig65m.extract(ours / "v05.mp4", model=tiny_model).array)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--stride", 4], "sampling.stride is None there, 4 here"),
        (["--engine", "pytorch", "--precision", "bf16"], "precision is fp32 there, bf16 here"),
        (["--dtype", "float16"], "features is float32 there, float16 here"),
        (["--preprocessing", "ig65m-pytorch"], "preprocessing.resampling is fast_bilinear there, float_bilinear here"),
        (["--full-hash"], "content is sampled there, full here"),
        (["--logits"], "logits is False there, True here"),
        (["--image-fps", 10], "image_fps is 25.0 there, 10.0 here"),
        (["--model", "r2plus1d_10_camera_motion"], "sha256 is"),
    ],
)
def test_other_settings_do_not_mix(undisturbed, videos, tiny_model, run, option, said):
    before = files(undisturbed)
    code, _, err = run("extract", videos, "--output", undisturbed, "--model", tiny_model, *option)
    assert code == 2
    assert said in err
    assert files(undisturbed) == before


def test_two_processes_do_each_video_once(undisturbed, videos, tiny_model, tmp_path):
    folder = tmp_path / "features"
    command = [PROGRAM, "extract", videos, "--output", folder, "--model", tiny_model, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    made = []
    for each in both:
        out, err = each.communicate(timeout=200)
        assert each.returncode in (0, 3), err
        made += [video["path"] for video in json.loads(out)["videos"] if video["made"]]
    assert len(made) == len(set(made)) == 30
    same(folder, undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_polite_stop_keeps_what_is_whole_and_says_so(undisturbed, videos, tiny_model, tmp_path, number, code):
    folder = tmp_path / "features"
    command = [PROGRAM, "extract", videos, "--output", folder, "--model", tiny_model, "--stride", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (folder / "journal.jsonl").exists() or not (folder / "journal.jsonl").read_bytes():
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "stopped by" in err
    done = len(read_journal(folder))
    assert 0 < done < 30
    assert len(list((folder / "features").iterdir())) == done
    assert not list(folder.rglob("*.part"))


def broken(folder, good):
    """20 inputs that are broken in different ways: what each is called, and a word of the reason."""
    data = good.read_bytes()
    made = {
        "empty.mp4": b"",
        "zeros.mp4": bytes(5000),
        "text.mp4": b"not a video\n" * 100,
        "head.mp4": data[:200],
        "half_without_index.mp4": data[: len(data) // 2],
        "html.mkv": b"<html><body>404</body></html>",
        "noise.avi": random.Random(1).randbytes(10_000),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "concat.mp4": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "zip.mp4": b"PK\x03\x04" + bytes(1000),
        "png.mp4": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "wave.mp4": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + bytes(40),
        "ebml.mkv": b"\x1a\x45\xdf\xa3" + bytes(100),
        "flv.flv": b"FLV\x01\x05\0\0\0\x09" + bytes(50),
        "ftyp.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    return [*made, "folder.mp4", "pipe.mp4", "loop.mp4", "dangling.mp4", "missing.mp4"]


def test_broken_inputs_are_rows_and_the_rest_is_right(undisturbed, videos, tiny_model, tmp_path, run):
    folder = tmp_path / "features"
    names = broken(tmp_path, videos / "v10.mp4")
    bad = [str(tmp_path / name) for name in names]
    good = [str(videos / f"v{number:02}.mp4") for number in range(20)]
    both = [path for pair in zip(good, bad, strict=True) for path in pair]
    (tmp_path / "list.txt").write_text("\n".join(both))
    code, out, err = run("extract", tmp_path / "list.txt", "--output", folder, "--model", tiny_model, "--json")
    assert code == 3
    rows = {row["path"]: row for row in json.loads(out)["videos"]}
    assert [row["path"] for row in json.loads(out)["videos"]] == both
    assert all(rows[path]["status"] == "ok" for path in good)
    for path in bad:
        assert rows[path]["status"] == "failed"
        assert rows[path]["output"] is None
        assert Path(path).name in rows[path]["error"]["message"]
        assert Path(path).name in err
    mine, theirs = files(folder / "features"), files(undisturbed / "features")
    assert len(mine) == 20
    assert all(theirs[name] == content for name, content in mine.items())
    errors = [json.loads(line) for line in (folder / "errors.jsonl").read_text().splitlines()]
    assert sorted(error["path"] for error in errors) == sorted(bad)
    assert {path.name for path in folder.iterdir()} == {"settings.json", "journal.jsonl", "errors.jsonl", "features", ".locks"}

    before = files(folder)
    code, out, _ = run("extract", tmp_path / "list.txt", "--output", folder, "--model", tiny_model)
    assert code == 3
    assert "20 ok, 20 failed, 40 of them done before" in out
    assert files(folder) == before
    shutil.copy(videos / "v20.mp4", tmp_path / "missing.mp4")  # now it is there
    code, out, _ = run("extract", tmp_path / "list.txt", "--output", folder, "--model", tiny_model)
    assert "21 ok, 19 failed, 39 of them done before" in out
    assert len((folder / "errors.jsonl").read_text().splitlines()) == 19


def test_failures_are_done_again_only_when_asked(tiny_model, tmp_path, run, monkeypatch, videos):
    from ig65m.video.isolation import Decoder

    folder, read = tmp_path / "features", Decoder.read_samples

    def fails(self, source, *args, **options):
        if "v03" in str(source):
            raise OSError(errno.EIO, "the disk is away", str(source))
        return read(self, source, *args, **options)

    monkeypatch.setattr(Decoder, "read_samples", fails)
    inputs = [videos / "v02.mp4", videos / "v03.mp4"]
    assert run("extract", *inputs, "--output", folder, "--model", tiny_model)[0] == 3
    monkeypatch.setattr(Decoder, "read_samples", read)
    code, out, _ = run("extract", *inputs, "--output", folder, "--model", tiny_model)
    assert code == 3
    assert "1 ok, 1 failed, 2 of them done before" in out
    code, out, _ = run("extract", *inputs, "--output", folder, "--model", tiny_model, "--retry-failed")
    assert code == 0
    assert "2 ok, 1 of them done before" in out
    assert not (folder / "errors.jsonl").read_text()


def test_partial_ones_are_done_again_when_asked(tiny_model, tmp_path, run):
    times = [40 * i for i in range(100)]
    whole = encode(tmp_path / "whole.mp4", [numbered(i) for i in range(100)], times, container={"movflags": "faststart"})
    data = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    folder, made = tmp_path / "features", []
    for options in ([], [], ["--retry-failed"]):
        code, out, _ = run("extract", tmp_path / "cut.mp4", "--output", folder, "--model", tiny_model, "--json", *options)
        (row,) = json.loads(out)["videos"]
        assert (code, row["status"], row["clips"] > 2) == (3, "partial", True)
        made.append(row["made"])
    assert made == [True, False, True]
    first, second = (folder / "journal.jsonl").read_text().splitlines()
    assert first == second


def test_a_full_disk_stops_the_run_and_loses_nothing(undisturbed, videos, tiny_model, tmp_path, run, monkeypatch):
    folder, commit = tmp_path / "features", store_folder.Store.commit
    count = iter(range(100))

    def full(self, *args):
        if next(count) == 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        return commit(self, *args)

    monkeypatch.setattr(store_folder.Store, "commit", full)
    code, out, err = run("extract", videos, "--output", folder, "--model", tiny_model, "--json")
    assert code == 1
    assert "No space left on device; free some space" in err
    assert len(json.loads(out)["videos"]) == len(read_journal(folder)) == 5
    assert run("extract", videos, "--output", folder, "--model", tiny_model)[0] == 0
    same(folder, undisturbed)


def test_shards_share_all_videos_evenly(videos, tiny_model, tmp_path, run, undisturbed):
    folder, shares = tmp_path / "features", []
    for number in (1, 2, 3):
        code, out, err = run("extract", videos, "--output", folder, "--model", tiny_model, "--shard", f"{number}/3", "--json")
        assert code == 0, err
        shares.append([row["path"] for row in json.loads(out)["videos"]])
    entries = {entry.video.path: entry for entry in read_journal(undisturbed)}
    assert sorted(path for share in shares for path in share) == sorted(entries)
    results = {path: undisturbed / "features" / f"{entry.name}.parquet" for path, entry in entries.items()}
    seconds = {path: pq.read_table(result)["end"][-1].as_py() for path, result in results.items()}
    sums = [sum(seconds[path] for path in share) for share in shares]
    assert max(sums) - min(sums) < max(seconds.values())
    same(folder, undisturbed)


def test_a_pipe_keeps_no_shard_waiting(videos, tiny_model, tmp_path, run):
    os.mkfifo(tmp_path / "pipe.mp4")
    args = [videos / "v00.mp4", tmp_path / "pipe.mp4", "--output", tmp_path / "f", "--model", tiny_model, "--shard", "1/1"]
    code, _, err = run("extract", *args)  # a decoder that says nothing would be waited for, for a minute
    assert (code, "pipe.mp4: expected a regular file or a folder" in err) == (3, True)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "x", "1/0", "1/3/4", "-1/3", "1", "1/9999999"])
def test_a_shard_that_is_none(videos, tiny_model, tmp_path, run, shard):
    code, _, err = run("extract", videos, "--output", tmp_path / "f", "--model", tiny_model, f"--shard={shard}")
    assert code == 2
    assert "such as 3/16" in err
    assert not (tmp_path / "f").exists()


def test_parts_of_a_video_are_results_of_their_own(videos, tiny_model, tmp_path, run):
    video = videos / "v06.mp4"  # 47 frames
    (tmp_path / "parts.csv").write_text(f"path,start,end\n{video},,0.4\n{video},0.4,1.0\n")
    (tmp_path / "vmz.csv").write_text(f"org_video,label,start_frm,video_id\n{video},0,3,1\n{video},0,30,2\n{video},0,45,3\n")
    folder = tmp_path / "features"
    code, out, err = run("extract", tmp_path / "parts.csv", "--output", folder, "--model", tiny_model, "--json")
    assert code == 0, err
    for row, (start, end) in zip(json.loads(out)["videos"], [(None, 0.4), (0.4, 1.0)], strict=True):
        alone = ig65m.extract(video, model=tiny_model, start=start, end=end)
        features, _ = read_parquet(Path(row["output"]))
        np.testing.assert_array_equal(features.array, alone.array)
        assert features.spans == alone.spans
    code, out, err = run("extract", tmp_path / "vmz.csv", "--output", folder, "--model", tiny_model, "--json")
    assert code == 3
    (row,) = json.loads(out)["videos"]
    assert row["status"] == "partial"
    assert "no complete clip at frame 45" in row["error"]["message"]
    features, _ = read_parquet(Path(row["output"]))
    assert [(span.first_frame, span.last_frame) for span in features.spans] == [(3, 10), (30, 37)]
    alone = ig65m.extract(video, model=tiny_model, start=30 * 0.04)
    np.testing.assert_array_equal(features.array[1], alone.array[0])


def test_half_precision_and_labels(videos, tmp_path, run):
    model, folder = "r2plus1d_10_camera_motion", tmp_path / "features"
    code, out, err = run(
        "extract",
        videos / "v06.mp4",
        "--output",
        folder,
        "--model",
        model,
        "--dtype",
        "float16",
        "--top-k",
        2,
        "--logits",
        "--json",
    )
    assert code == 0, err
    (row,) = json.loads(out)["videos"]
    table = pq.read_table(row["output"])
    assert str(table["features"].type) == "fixed_size_list<element: halffloat not null>[128]"
    alone = ig65m.extract(videos / "v06.mp4", model=model, logits=True)
    features, _ = read_parquet(Path(row["output"]))
    np.testing.assert_array_equal(features.array, alone.array.astype(np.float16))
    said = ig65m.classify(videos / "v06.mp4", model=model, top_k=2)
    wanted = [[{"label": each.label, "score": each.score} for each in clip.labels] for clip in said.clips]
    assert table["labels"].to_pylist() == wanted


def test_options_of_files_and_folders_do_not_mix(videos, tmp_path, run):
    for option in (["--dtype", "float16"], ["--shard", "1/2"], ["--retry-failed"], ["--full-hash"]):
        code, _, err = run("extract", videos / "v00.mp4", "--output", tmp_path / "x.npz", *option)
        assert (code, option[0] in err) == (2, True)
    code, _, err = run("extract", videos / "v00.mp4", "--output", tmp_path / "x", "--overwrite")
    assert (code, "--overwrite is for a file" in err) == (2, True)
    code, _, err = run("extract", videos / "v00.mp4", "--output", tmp_path / "x", "--dtype", "float64")
    assert (code, "'float32', 'float16'" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []

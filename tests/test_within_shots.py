"""Clips that never cross a shot: each shot has the clips of a video of its own, bit for bit."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import ig65m
from ig65m.video.sampling import Sampling
from ig65m.video.shot_clips import WithinShots
from tests.conftest import PROGRAM
from tests.shot_footage import dissolve, lossless, take
from tests.videos import constant, encode_numbers, number_in

MODEL = "r2plus1d_10_camera_motion"
LENGTHS = {"rabbit": 90, "street": 55, "square": 40}


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """Three takes as videos of their own, and one after the other in one video."""
    folder = tmp_path_factory.mktemp("takes")
    pictures = [take(name, count) for name, count in LENGTHS.items()]
    alone = [lossless(folder / f"{name}.mkv", each) for name, each in zip(LENGTHS, pictures, strict=True)]
    return alone, lossless(folder / "together.mkv", np.concatenate(pictures))


def test_the_shots_are_the_takes(takes):
    alone, together = takes
    found = ig65m.detect_shots(together)
    assert [(shot.first_frame, shot.last_frame) for shot in found.shots] == [(0, 89), (90, 144), (145, 184)]
    assert [shot.transition for shot in found.shots] == ["cut", "cut", "end"]
    assert [shot.start for shot in found.shots] == pytest.approx([0, 3.6, 5.8])
    assert [shot.end for shot in found.shots] == pytest.approx([3.6, 5.8, 7.4])
    assert found.shots[0].score > 0.5
    assert found.shots[-1].score is None
    assert found.fps == pytest.approx(25)
    assert found.probabilities.shape == (185, 2)
    assert np.flatnonzero(found.probabilities[:, 0] > 0.5).tolist() == [89, 144]
    assert [len(each.shots) for each in ig65m.detect_shots_many(alone)] == [1, 1, 1]


def ig65m_says(*args):
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, check=True).stdout


HOW = [
    {},
    {"stride": 3, "tail": "drop"},
    {"frames": 8, "frame_step": 5, "stride": 7},
    {"fps": 10.0},
    {"fps": 60.0, "stride": 11},
    {"frames": 16, "frame_step": 4},  # longer than the shortest take
    {"in_process": True, "engine": "onnxruntime"},
]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_each_shot_has_the_features_of_its_take(how, takes):
    alone, together = takes
    extractor = ig65m.Extractor(MODEL, **how)
    apart = list(extractor.extract_many(alone))
    joined = ig65m.Extractor(MODEL, within_shots=True, **how).extract(together)
    np.testing.assert_array_equal(joined.array, np.concatenate([each.array for each in apart]))
    assert [span.shot for span in joined.spans] == [number for number, each in enumerate(apart) for _ in each.spans]
    starts = np.repeat([0, 3.6, 5.8], [len(each.spans) for each in apart])
    own = [span for each in apart for span in each.spans]
    assert [span.start for span in joined.spans] == pytest.approx(starts + [span.start for span in own])
    if "fps" not in how:
        frames = np.repeat([0, 90, 145], [len(each.spans) for each in apart])
        assert [span.first_frame for span in joined.spans] == (frames + [span.first_frame for span in own]).tolist()
        assert [span.last_frame for span in joined.spans] == (frames + [span.last_frame for span in own]).tolist()


def test_labels_of_several_crops_stay_within_shots(takes):
    alone, together = takes
    apart = [ig65m.classify(path, model=MODEL, crops=3, top_k=9) for path in alone]
    joined = ig65m.classify(together, model=MODEL, crops=3, top_k=9, within_shots=True)
    wanted = [(number, clip.labels) for number, each in enumerate(apart) for clip in each.clips]
    assert [(clip.shot, clip.labels) for clip in joined.clips] == wanted
    streamed = ig65m.classify_clips(together, model=MODEL, crops=3, top_k=9, within_shots=True)
    assert list(streamed) == list(joined.clips)


def test_shots_of_a_folder_give_the_same(takes, tmp_path):
    _, together = takes
    folder, features = tmp_path / "shots", tmp_path / "features"
    ig65m_says("shots", together, "--output", folder)
    found = ig65m.extract(together, model=MODEL, within_shots=True)
    read = ig65m.extract(together, model=MODEL, within_shots=folder)
    np.testing.assert_array_equal(read.array, found.array)
    assert read.spans == found.spans
    assert read.model == found.model
    assert read.model["shots"]["threshold"] == 0.5
    ig65m_says("extract", together, "--model", MODEL, "--output", features, "--within-shots")
    again = ig65m_says("extract", together, "--model", MODEL, "--output", features, "--shots", folder)
    assert "1 of them done before" in again
    (file,) = (features / "features").glob("*.parquet")
    table = pq.read_table(file)
    assert table["shot"].to_pylist() == [span.shot for span in found.spans]
    assert ig65m.load_features(file).spans == found.spans


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_files_keep_the_numbers_of_shots(suffix, takes, tmp_path):
    _, together = takes
    found = ig65m.extract(together, model=MODEL, within_shots=True)
    found.save(tmp_path / f"features{suffix}")
    assert ig65m.load_features(tmp_path / f"features{suffix}").spans == found.spans


def test_json_and_table_say_the_shot(takes):
    _, together = takes
    said = json.loads(ig65m_says("classify", together, "--model", MODEL, "--within-shots", "--json"))
    shots = [clip["shot"] for clip in said["videos"][0]["clips"]]
    assert shots == sorted(shots)
    assert set(shots) == {0, 1, 2}
    assert ["shot", "from", "(s)"] in [
        line.split()[:3] for line in ig65m_says("classify", together, "--model", MODEL, "--within-shots").splitlines()
    ]
    plain = json.loads(ig65m_says("classify", together, "--model", MODEL, "--json"))
    assert "shot" not in plain["videos"][0]["clips"][0]


def told(bounds):
    """Shots with these first and last frames, whatever the pictures are."""

    def number(source, samples):
        for frame, sample in enumerate(samples):
            inside = [shot for shot, (first, last) in enumerate(bounds) if first <= frame <= last]
            yield sample, inside[0] if inside else None

    return WithinShots(number)


PIXELS = ig65m.Preprocessing(resize=(64, 96), crop=(64, 96), mean=(0, 0, 0), std=(1, 1, 1), resampling="area")


def numbers_of(video, sampling, bounds, **how):
    """Per clip: its shot, its first and last frame, and the numbers in its pictures."""
    clips = ig65m.read_clips(video, sampling, PIXELS, within=told(bounds), **how)
    return [
        (clip.span.shot, clip.span.first_frame, clip.span.last_frame, [number_in(picture) for picture in clip.pixels])
        for clip in clips
    ]


@pytest.mark.parametrize("in_process", [False, True])
def test_a_short_shot_gives_one_padded_clip(in_process, tmp_path):
    """Frames within a transition, 7 to 9 here, are in no clip; a shot of two frames and one of one give a clip each."""
    video = encode_numbers(tmp_path / "video.mp4", constant(20))
    found = numbers_of(video, Sampling(frames=4), [(0, 6), (10, 11), (12, 12), (13, 19)], in_process=in_process)
    assert found == [
        (0, 0, 3, [0, 1, 2, 3]),
        (0, 4, 6, [4, 5, 6, 6]),
        (1, 10, 11, [10, 11, 11, 11]),
        (2, 12, 12, [12, 12, 12, 12]),
        (3, 13, 16, [13, 14, 15, 16]),
        (3, 17, 19, [17, 18, 19, 19]),
    ]


def test_a_range_has_shots_of_its_own(tmp_path):
    video = encode_numbers(tmp_path / "video.mp4", constant(20, first=1000))
    found = numbers_of(video, Sampling(frames=2, frame_step=2, start=1.2, end=1.52), [(0, 3), (4, 7)])
    assert found == [(0, 0, 2, [5, 7]), (0, 3, 3, [8, 8]), (1, 4, 6, [9, 11]), (1, 7, 7, [12, 12])]


def test_times_are_those_of_the_stream(tmp_path):
    """A variable rate and a late start: the spans have the frames' own times."""
    times = [5000, 5040, 5100, 5300, 5310, 5400, 5600, 5601, 5700, 5800]
    video = encode_numbers(tmp_path / "video.mkv", times)
    clips = ig65m.read_clips(video, Sampling(frames=3), PIXELS, within=told([(0, 3), (4, 9)]))
    assert [(clip.span.start, clip.span.end) for clip in clips] == [
        pytest.approx((5.0, 5.3)),
        pytest.approx((5.3, 5.31)),
        pytest.approx((5.31, 5.601)),
        pytest.approx((5.601, 5.9), abs=0.11),
    ]


def test_a_video_that_breaks_off_keeps_its_clips(tmp_path):
    """The clips up to the break, status partial, and the last good time."""
    whole = lossless(tmp_path / "whole.mkv", np.concatenate([take("rabbit", 60), take("street", 55)]))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 9 // 10])
    shots = ig65m.detect_shots(cut)
    assert shots.status == "partial"
    assert shots.error is not None
    assert [(shot.first_frame, shot.transition) for shot in shots.shots] == [(0, "cut"), (60, "end")]
    assert shots.shots[-1].end == pytest.approx(shots.error.last_good_time)
    features = ig65m.extract(cut, model=MODEL, within_shots=True)
    assert features.status == "partial"
    assert min(span.first_frame for span in features.spans if span.shot == 1) == 60
    assert shots.shots[-1].last_frame - features.spans[-1].last_frame in (0, 1)  # every second frame


def test_odd_videos_have_shots(tmp_path):
    """One frame; a variable rate with a late start; frames in memory; a folder that is none."""
    one = encode_numbers(tmp_path / "one.mp4", [0])
    (only,) = ig65m.detect_shots(one).shots
    assert (only.first_frame, only.last_frame, only.start, only.transition) == (0, 0, 0.0, "end")
    assert ig65m.extract(one, model=MODEL, within_shots=True).spans[0].shot == 0

    times = [3000 + 40 * number + (number % 3) * 9 for number in range(90)]
    late = lossless(tmp_path / "late.mkv", np.concatenate([take("rabbit", 45), take("square", 45)]), times=times)
    shots = ig65m.detect_shots(late).shots
    assert [(shot.start, shot.first_frame) for shot in shots] == [(pytest.approx(3.0), 0), (pytest.approx(4.8), 45)]
    assert shots[0].end == shots[1].start

    frames = ig65m.Frames(np.concatenate([take("rabbit", 45), take("square", 45)]), fps=50)
    assert [shot.start for shot in ig65m.detect_shots(frames).shots] == [0.0, 0.9]
    missing, real = ig65m.detect_shots_many([tmp_path / "missing.mp4", late])
    assert (missing.status, missing.shots, real.status) == ("failed", (), "ok")
    with pytest.raises(ig65m.VideoError, match="no such file"):
        ig65m.detect_shots(tmp_path / "missing.mp4")


def test_a_dissolve_is_gradual(tmp_path):
    pictures = dissolve(take("rabbit", 80), take("square", 50), 16)
    first, second = ig65m.detect_shots(lossless(tmp_path / "video.mkv", pictures)).shots
    assert first.transition == "gradual"
    assert 64 <= first.last_frame <= second.first_frame <= 80


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"clips": 3}, "--clips or --within-shots"),
        ({"within_shots": "nowhere"}, "nowhere is not a folder of shots"),
        ({"within_shots": 1}, "True, False or a folder of shots, got 1"),
    ],
)
def test_what_contradicts_shots_is_refused(how, message, bikes):
    with pytest.raises(ig65m.UsageError, match=message):
        ig65m.classify(bikes, model=MODEL, **{"within_shots": True, **how})


def test_clips_at_given_frames_are_refused(bikes):
    with pytest.raises(ig65m.VideoError, match="starts and within_shots"):
        ig65m.extract(ig65m.Segment(str(bikes), starts=(3,)), model=MODEL, within_shots=True)


@pytest.mark.parametrize("threshold", [0, 1, -1, float("nan"), "0.5"])
def test_a_threshold_is_between_0_and_1(threshold, bikes):
    with pytest.raises(ig65m.UsageError, match="threshold must be between 0 and 1"):
        ig65m.detect_shots(bikes, threshold=threshold)


def test_a_part_of_a_video_has_shots_of_its_own(takes):
    """Segments have their own range, within which shots count from 0."""
    _, together = takes
    part = ig65m.Segment(str(together), start=3.0, end=6.4)
    shots = ig65m.detect_shots(part).shots
    assert [(shot.first_frame, shot.last_frame) for shot in shots] == [(0, 14), (15, 69), (70, 84)]
    features = ig65m.extract(part, model=MODEL, within_shots=True)
    assert {span.shot for span in features.spans} == {0, 1, 2}
    assert features.spans == ig65m.extract(str(together), model=MODEL, within_shots=True, start=3.0, end=6.4).spans
    assert replace(features.spans[0], shot=None).first_frame == 0


def test_shots_that_end_too_early_are_not_silent(takes, tmp_path):
    """The shots of a run that was limited to the first frames: what follows is named, and the clips so far are kept."""
    _, together = takes
    folder = tmp_path / "shots"
    limited = subprocess.run(
        [PROGRAM, "shots", together, "--output", folder, "--max-frames", "100"], capture_output=True, check=False
    )
    assert limited.returncode == 3
    found = ig65m.extract(together, model=MODEL, within_shots=folder)
    assert found.status == "partial"
    assert "are known up to 4.000 s only; run `ig65m shots" in found.error.message
    assert {span.shot for span in found.spans} == {0, 1}
    record = next(file for file in folder.glob("*.json") if file.name != "shots.json")
    contents = json.loads(record.read_text())
    record.write_text(json.dumps({**contents, "shots": [], "status": "ok", "error": None}))
    with pytest.raises(ig65m.VideoError, match="status 'ok' without shots"):
        ig65m.extract(together, model=MODEL, within_shots=folder)


def test_shots_that_are_missing_are_said_before_the_run(takes, tmp_path):
    alone, together = takes
    folder, features = tmp_path / "shots", tmp_path / "features"
    ig65m_says("shots", together, "--output", folder)
    for command in (["extract", "--output", features], ["extract", "--output", features.with_suffix(".npz")], ["classify"]):
        done = subprocess.run(
            [PROGRAM, *command, alone[0], "--model", MODEL, "--shots", folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "has no shots of it; run `ig65m shots" in done.stderr
    assert not features.exists()
    both = [PROGRAM, "classify", together, "--model", MODEL, "--shots", folder, "--within-shots"]
    assert "leave one of them out" in subprocess.run(both, capture_output=True, text=True, check=False).stderr


def test_a_limit_on_samples_names_the_video(tmp_path):
    video = encode_numbers(tmp_path / "video.mp4", constant(40))
    sampling = Sampling(frames=2, fps=100.0)
    within = WithinShots(told([(0, 9), (10, 39)]).number, most=60)
    with pytest.raises(ig65m.VideoError, match=r"video\.mp4: more than 60 frames sampled"):
        list(ig65m.read_clips(video, sampling, PIXELS, within=within))


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1e-300])
def test_a_rate_of_images_is_checked(rate, bikes):
    with pytest.raises(ig65m.UsageError, match=r"image_fps must be from 0\.001 to 1000"):
        ig65m.detect_shots(bikes, image_fps=rate)


def test_what_is_no_video_is_named(bikes):
    (bad,) = ig65m.detect_shots_many([3])
    assert bad.status == "failed"
    assert "expected a video" in bad.error.message


def test_the_last_frames_of_a_shot_belong_to_it(takes, tmp_path):
    """In the index too, where no clip has them: clips of eight frames, with a stride of twenty."""
    pytest.importorskip("lancedb")
    from ig65m.search.index import Index
    from ig65m.search.query import stored_query

    _, together = takes
    options = ("--model", MODEL, "--frames", 8, "--frame-step", 1, "--stride", 20, "--tail", "drop")
    ig65m_says("extract", together, "--output", tmp_path / "features", "--within-shots", *options)
    index, _ = Index.build(tmp_path / "features", tmp_path / "index")
    (video,) = index.sources()
    for time, shot in [(0.0, 0), (3.58, 0), (3.6, 1), (5.79, 1), (5.8, 2)]:
        assert stored_query(index, video, time, whole_shot=True).shot == shot

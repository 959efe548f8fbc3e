"""Ten clips, three crops, whole pictures: how VMZ scored a video."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ig65m
from ig65m.errors import UsageError, VideoError
from ig65m.types import Frames, Preprocessing
from ig65m.video.clips import uniform_clips
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling, uniform_starts
from ig65m.zoo.load import load_model
from tests import videos
from tests.conftest import GOLDEN
from tests.videoresnet import random_model

pytestmark = pytest.mark.slow

MEAN = torch.tensor([110.201, 100.64, 95.9966]).view(3, 1, 1, 1)
STD = torch.tensor([58.1489, 56.4701, 55.3324]).view(3, 1, 1, 1)


@pytest.mark.parametrize("clips", [1, 2, 3, 10, 25])
@pytest.mark.parametrize("need", [1, 8, 63])
@pytest.mark.parametrize("spare", [0, 1, 7, 8, 100, 237, 9_999])
def test_clips_are_spread_as_vmz_spread_them(clips, need, spare):
    step = spare / (clips - 1) if clips > 1 else 0.0
    wanted = tuple(math.floor(number * step + 1e-9) for number in range(clips))
    assert uniform_starts(need + spare, clips, need) == wanted


def test_a_short_video_is_one_clip():
    assert uniform_starts(7, 10, 8) == (0,)
    assert uniform_starts(0, 10, 8) == ()


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """50 frames, one each 40 ms from 0.48 s on, that show their numbers."""
    path = tmp_path_factory.mktemp("scoring") / "numbers.mp4"
    return videos.encode_numbers(path, videos.constant(50, first=480), options={"g": "10"})


def numbers(path, sampling, clips):
    whole = Preprocessing(resize=(32, 64), crop=(32, 64), mean=(0, 0, 0), std=(1, 1, 1))
    found = uniform_clips(lambda chosen: read_samples(path, chosen, whole), sampling, clips)
    return [([videos.number_in(picture) for picture in clip.pixels], clip.span) for clip in found]


def test_the_frames_of_spread_clips(numbered):
    found = numbers(numbered, Sampling(frames=4, frame_step=3), 5)  # spans of 10
    assert [shown for shown, _ in found] == [[start + 3 * n for n in range(4)] for start in (0, 10, 20, 30, 40)]
    assert [round(span.start, 2) for _, span in found] == [0.48, 0.88, 1.28, 1.68, 2.08]
    assert round(found[-1][1].end, 2) == 2.48
    assert [shown[0] for shown, _ in numbers(numbered, Sampling(frames=48), 5)] == [0, 0, 1, 1, 2]  # VMZ repeats clips too
    assert [shown for shown, _ in numbers(numbered, Sampling(frames=3), 1)] == [[0, 1, 2]]
    assert [shown[0] for shown, _ in numbers(numbered, Sampling(frames=4, start=1.28, end=2.08), 3)] == [20, 28, 36]
    assert numbers(numbered, Sampling(frames=52), 10)[0][0] == [*range(50), 49, 49]


def test_of_a_broken_video_the_good_part_is_spread_over(numbered, tmp_path):
    cut = tmp_path / "cut.mkv"
    videos.encode_numbers(cut, videos.constant(50), options={"g": "10"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    with pytest.raises(VideoError) as failure:
        list(read_samples(cut, Sampling(frames=1), Preprocessing(resize=(8, 8), crop=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))))
    good = round(failure.value.last_good_time / 0.04)
    model = load_model(GOLDEN / "tiny_r2plus1d_10.pkl")
    prediction = ig65m.classify(cut, model=model, frames=8, clips=3)
    assert prediction.status == "partial"
    assert prediction.error.last_good_time == failure.value.last_good_time
    starts = [round(clip.start / 0.04) for clip in prediction.clips]
    assert starts == [0, (good - 8) // 2, good - 8]


@pytest.fixture(scope="module")
def full_scale(tmp_path_factory):
    reference = random_model(400, seed=5)
    path = tmp_path_factory.mktemp("reference") / "r2plus1d_34.pth"
    torch.save(reference.state_dict(), path)
    return reference, load_model(path)


def test_the_scores_are_those_of_vmz(full_scale):
    """Two clips of two crops of 128x128: the mean over 2x2 places of a softmax over classes and places together."""
    reference, model = full_scale
    pictures = np.random.default_rng(7).integers(0, 256, (21, 128, 171, 3), dtype=np.uint8)  # of the size resized to
    crops = [(slice(0, 128), slice(left, left + 128)) for left in (0, 43)]
    wanted = []
    for start in (0, 13):
        for rows, columns in crops:
            clip = torch.from_numpy(pictures[start : start + 8, rows, columns].astype(np.float32)).permute(3, 0, 1, 2)
            with torch.inference_mode():
                x = reference.stem(((clip - MEAN) / STD)[None])
                x = reference.layer4(reference.layer3(reference.layer2(reference.layer1(x))))
                places = F.avg_pool3d(x, (1, 7, 7), stride=1)
                logits = torch.einsum("kc,ncthw->nkthw", reference.fc.weight, places) + reference.fc.bias.view(1, -1, 1, 1, 1)
            wanted.append(torch.softmax(logits.double().flatten(), 0).view(400, 4).mean(1).numpy())
    prediction = ig65m.classify(
        ig65m.Frames(pictures, 25), model=model, frames=8, clips=2, crops=2, full=True, top_k=400, batch_size=3
    )
    assert [round(clip.start * 25) for clip in prediction.clips] == [0, 13]
    for clip, pair in zip(prediction.clips, (wanted[:2], wanted[2:]), strict=True):
        assert sum(label.score for label in clip.labels) == pytest.approx(1 / 4)
        by_class = np.array([score for _, score in sorted((int(label.label[6:]), label.score) for label in clip.labels)])
        np.testing.assert_allclose(by_class, np.mean(pair, axis=0), rtol=1e-4)
    best = prediction.labels[0]
    video = np.mean(wanted, axis=0)
    assert best.label == f"class {video.argmax()}"
    assert best.score == pytest.approx(video.max(), rel=1e-4)


@pytest.mark.parametrize("upright", [False, True])
def test_crops_go_along_the_longer_edge(upright):
    """CSN's pictures keep their aspect ratio: 256x340, or 340x256, of which three crops of 256x256 are taken."""
    model = load_model(GOLDEN / "tiny_ir_csn_50.pkl")
    shape = (340, 256) if upright else (256, 340)
    pictures = np.random.default_rng(3).integers(0, 256, (15, *shape, 3), dtype=np.uint8)
    wanted = []
    for offset in (0, 42, 84):
        rows, columns = (
            (slice(offset, offset + 256), slice(0, 256)) if upright else (slice(0, 256), slice(offset, offset + 256))
        )
        clip = torch.from_numpy(pictures[::2, rows, columns].astype(np.float32)).permute(3, 0, 1, 2)
        with torch.inference_mode():
            maps = model.forward_features(((clip - MEAN) / STD)[None])
            assert maps.shape[-2:] == (8, 8)
            windows = [maps[..., y : y + 7, x : x + 7].mean((2, 3, 4)) for y in (0, 1) for x in (0, 1)]
            logits = torch.cat([model.fc(window) for window in windows])
        wanted.append(torch.softmax(logits.double().flatten(), 0).view(4, -1).mean(0).numpy())
    prediction = ig65m.classify(Frames(pictures, 25.0), model=model, frames=8, crops=3, full=True, top_k=11)
    (clip,) = prediction.clips
    assert [label.score for label in clip.labels] == pytest.approx(sorted(np.mean(wanted, axis=0), reverse=True), rel=1e-4)


def test_the_worker_crops_as_this_process_does(tiny_model, bigbuckbunny):
    here, there = (
        ig65m.classify(bigbuckbunny, model=tiny_model, clips=4, crops=3, in_process=in_process, end=2.0)
        for in_process in (True, False)
    )
    assert here == there
    assert [round(clip.start * 25) for clip in here.clips] == [0, 14, 28, 42]  # of 50 frames


def test_what_does_not_go_together_is_refused(tiny_model, bigbuckbunny):
    for options, message in (
        ({"clips": 10, "stride": 4}, "leave --clips or --stride out"),
        ({"clips": 10, "tail": "drop"}, "leave --clips or --tail out"),
        ({"clips": 0}, "from 1 to 1000, got 0"),
        ({"crops": 0}, "from 1 to 16, got 0"),
        ({"crops": 17}, "from 1 to 16, got 17"),
    ):
        with pytest.raises(UsageError, match=message):
            ig65m.classify(bigbuckbunny, model=tiny_model, **options)


def test_the_command_line(tiny_model, bigbuckbunny):
    program = Path(sys.executable).parent / "ig65m"
    options = ["--clips=3", "--crops=2", "--full", "--top-k=11", "--json"]
    command = [program, "classify", bigbuckbunny, "--model", tiny_model, *options]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (video,) = json.loads(run.stdout)["videos"]
    assert [round(clip["start"] * 25) for clip in video["clips"]] == [0, 62, 124]
    assert sum(label["score"] for label in video["labels"]) == pytest.approx(1 / 4)

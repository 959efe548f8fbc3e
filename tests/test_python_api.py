"""The Python API: what may be left out or None, and what is refused with a reason."""

import ast
import dataclasses
import inspect
import itertools
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

import ig65m
from ig65m.errors import UsageError, VideoError
from ig65m.tasks.options import Options
from ig65m.types import Frames, Segment
from ig65m.video.network_input import Preprocess
from ig65m.video.sampling import Sampling, needed

NAME = "r2plus1d_10_camera_motion"


@pytest.fixture(scope="module")
def extractor():
    return ig65m.Extractor(NAME)


def test_none_means_the_default_for_every_option(bigbuckbunny):
    nothing = dict.fromkeys(Options.__dataclass_fields__.keys() - {"model", "shared"})
    expected = ig65m.classify(bigbuckbunny, model=NAME, end=2.0)
    nothing["end"] = 2.0
    assert ig65m.classify(bigbuckbunny, model=NAME, top_k=None, crops=None, full=None, **nothing) == expected
    assert len(ig65m.extract(bigbuckbunny, model=NAME, pooling=None, **nothing).array) == len(expected.clips)


@pytest.mark.parametrize("function", ["classify", "classify_many", "classify_clips", "extract", "extract_many", "Extractor"])
def test_defaults_are_the_same_in_every_function(function):
    parameters = inspect.signature(getattr(ig65m, function)).parameters
    for field in dataclasses.fields(Options):
        if field.name not in ("model", "limits", "shared"):
            assert parameters[field.name].default == field.default, field.name


def test_clips_are_classified_one_after_the_other(bigbuckbunny, tmp_path):
    expected = ig65m.classify(bigbuckbunny, model=NAME, crops=3, batch_size=2)
    assert tuple(ig65m.classify_clips(bigbuckbunny, model=NAME, crops=3, batch_size=2)) == expected.clips
    long = Frames(np.broadcast_to(np.uint8(0), (10_000_000, 64, 64, 3)), 25.0)  # 123 GB, were it read at once
    clips = ig65m.classify_clips(long, model=NAME)
    assert next(clips).end == pytest.approx(0.6)
    clips.close()
    with pytest.raises(VideoError, match="no such file"):
        next(ig65m.classify_clips(tmp_path / "missing.mp4", model=NAME))
    with pytest.raises(UsageError, match="number of clips"):
        ig65m.classify_clips(bigbuckbunny, model=NAME, clips=0)


def test_preprocess_gives_the_pixels_of_the_pipeline(tiny_model):
    """PyTorch on preprocessed frames gives the features of `extract`, with one crop and with three."""
    model = ig65m.load_model(tiny_model)
    frames = np.random.default_rng(1).integers(0, 256, (8, 90, 160, 3), np.uint8)
    x = model.preprocess(frames)
    assert torch.equal(x, model.card.preprocess(torch.from_numpy(frames)))
    expected = ig65m.extract(ig65m.Frames(frames, 25.0), model=model, engine="pytorch")
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(x), pre_logits=True).numpy()
    np.testing.assert_allclose(features, expected.array, rtol=1e-5, atol=1e-6)
    for preprocessing in (model.card.preprocessing, dataclasses.replace(model.card.preprocessing, crops=3)):
        clips = list(ig65m.read_clips(ig65m.Frames(frames, 25.0), ig65m.Sampling(frames=8), preprocessing))
        np.testing.assert_array_equal(Preprocess(preprocessing).pixels(frames), np.stack([clip.pixels for clip in clips]))
    for wrong in (frames.astype(np.float32), frames[0], "video.mp4", frames[..., :2]):
        with pytest.raises(UsageError):
            model.preprocess(wrong)


def test_clips_are_spread_over_a_segment(bigbuckbunny):
    part = Segment(str(bigbuckbunny), start=1.0, end=4.0)
    prediction = ig65m.classify(part, model=NAME, clips=3)
    assert [clip.start for clip in prediction.clips] == pytest.approx([1.0, 2.2, 3.4])
    assert prediction.clips[-1].end == pytest.approx(4.0)
    with pytest.raises(UsageError, match="3 clips cannot be spread over a list of starts"):
        ig65m.classify(Segment(str(bigbuckbunny), starts=(0, 5)), model=NAME, clips=3)


@pytest.mark.parametrize("videos", ["a.mp4", b"a.mp4", Segment("a.mp4"), np.zeros((8, 4, 4, 3), np.uint8), None, 5])
def test_one_video_where_several_are_expected_is_refused(videos, extractor):
    for run in (extractor.extract_many, extractor.classify_many):
        with pytest.raises(UsageError, match="expected several videos, got"):
            next(run(videos))
    with pytest.raises(UsageError, match="expected several videos, got"):
        ig65m.classify_many(videos, model=NAME)


@pytest.mark.parametrize("video", [5, None, ["a.mp4"], b"a.mp4"])
def test_what_is_no_video_is_refused(video):
    with pytest.raises(UsageError, match="expected a video"):
        ig65m.classify(video, model=NAME)


def test_starts_in_any_order_give_clips_in_ascending_order(bigbuckbunny):
    features = ig65m.extract(Segment(str(bigbuckbunny), starts=[60, 8, 8, 30]), model=NAME)
    assert [span.first_frame for span in features.spans] == [8, 8, 30, 60]
    assert (features.array[0] == features.array[1]).all()
    with pytest.raises(VideoError, match="no complete clip at frame 500"):
        ig65m.extract(Segment(str(bigbuckbunny), starts=(500,)), model=NAME)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": ""},
        {"path": 5},
        {"path": "a\0b"},
        {"start": float("nan")},
        {"start": "1"},
        {"start": 2.0, "end": 1.0},
        {"starts": (-1,)},
        {"starts": (1.5,)},
        {"starts": ()},
        {"starts": 5},
    ],
)
def test_a_segment_checks_its_values(wrong):
    with pytest.raises(UsageError):
        Segment(**{"path": "a.mp4", **wrong})


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        ({"tail": "pda"}, "pad"),
        ({"engine": "openvin"}, "openvino"),
        ({"precision": "fp23"}, "fp32"),
        ({"preprocessing": "vmx"}, "vmz"),
    ],
)
def test_a_misspelt_choice_is_refused_with_the_nearest(option, nearest, bigbuckbunny):
    with pytest.raises(UsageError, match=f"(is not one of|has no) .*; did you mean '{nearest}'"):
        ig65m.classify(bigbuckbunny, model=NAME, **option)


def test_needed_frames_are_found_fast_among_many_starts():
    """A hundred thousand starts, one a frame: each frame is asked about in a few steps, not in as many as there are starts."""
    sampling = Sampling(frames=8, frame_step=2, starts=range(100_000))
    assert all(needed(tick, sampling) for tick in range(100_000))
    sparse = Sampling(frames=8, frame_step=2, starts=(5, 1000))
    expected = {start + step for start in (5, 1000) for step in range(0, 16, 2)}
    assert {tick for tick in range(1100) if needed(tick, sparse)} == expected


def test_the_public_names_are_there_and_shown():
    """In a process of its own: looking at the names loads neither torch nor an engine, using them gives what they name."""
    code = (
        "import sys, ig65m; names = dir(ig65m); assert set(ig65m.__all__) < set(names);"
        "assert not {'torch', 'openvino', 'onnx', 'av'} & set(sys.modules), sys.modules;"
        "print(len([getattr(ig65m, name) for name in ig65m.__all__]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == len(ig65m.__all__)
    assert all(getattr(ig65m, name).__doc__ for name in ig65m.__all__ if name != "cards")


def test_type_checkers_and_editors_see_every_public_name():
    tree = ast.parse(Path(ig65m.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = [alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(seen) == sorted(ig65m.__all__)


def test_read_clips_gives_what_the_extractor_sees(bigbuckbunny):
    card = ig65m.cards[NAME]
    sampling = ig65m.Sampling(frames=card.frames, frame_step=card.frame_step, end=3.0)
    clips = list(ig65m.read_clips(bigbuckbunny, sampling, card.preprocessing))
    features = ig65m.extract(bigbuckbunny, model=NAME, end=3.0)
    assert [clip.span for clip in clips] == list(features.spans)
    with av.open(str(bigbuckbunny)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), 60)])
    in_memory = list(ig65m.read_clips(ig65m.Frames(frames, 25.0), sampling, card.preprocessing))
    assert [clip.pixels.shape for clip in in_memory[:3]] == [(8, 64, 64, 3)] * 3
    spread = list(ig65m.read_clips(ig65m.Segment(str(bigbuckbunny), 1.0, 4.0), sampling, card.preprocessing, clips=3))
    assert [clip.span.start for clip in spread] == pytest.approx([1.0, 2.2, 3.4])


def test_features_are_saved_and_loaded(bigbuckbunny, tmp_path):
    features = ig65m.extract(bigbuckbunny, model=NAME, end=2.0)
    for suffix in (".npz", ".npy", ".parquet"):
        ig65m.save_features(features, tmp_path / f"f{suffix}")
        again = ig65m.load_features(tmp_path / f"f{suffix}")
        assert (again.array == features.array).all()
        assert again.spans == features.spans

"""classify and extract: results that depend on the video alone, and on nothing that ran beside it."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ig65m
from ig65m.engines.base import Pooling
from ig65m.engines.pytorch import find_device, pool
from ig65m.errors import IgError, ModelError, UsageError, VideoError
from ig65m.tasks.scoring import class_scores
from ig65m.zoo.load import load_model
from tests.videoresnet import random_model


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def features(model, bigbuckbunny):
    return ig65m.extract(bigbuckbunny, model=model, logits=True, batch_size=1)


def test_features_come_with_their_spans(features, model):
    assert features.array.shape == (17, 64)
    assert features.array.dtype == np.float32
    assert [round(span.start, 3) for span in features.spans] == [round(0.32 * n, 3) for n in range(17)]
    assert features.spans[-1].end == pytest.approx(5.28, abs=1e-3)  # four real frames in the last clip
    assert features.model["name"] == "tiny"
    assert features.model["sampling"]["frames"] == 8
    assert len(features.model["sha256"]) == 64
    with torch.inference_mode():
        logits = model.fc(torch.from_numpy(features.array))
    np.testing.assert_allclose(features.logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_batch_size_and_neighbours_do_not_matter(features, model, bigbuckbunny, bikes):
    for batch_size in (3, 32):
        others = list(ig65m.extract_many([bikes, bigbuckbunny, bikes], model=model, batch_size=batch_size))
        assert [len(other.array) for other in others] == [32, 17, 32]
        difference = np.abs(others[1].array - features.array).max() / np.abs(features.array).max()
        assert difference < 1e-5
        assert others[1].spans == features.spans


def test_a_video_that_cannot_be_read_does_not_stop_the_others(features, model, bigbuckbunny, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    results = list(ig65m.extract_many([broken, bigbuckbunny, tmp_path / "none.mp4"], model=model))
    assert [result.status for result in results] == ["failed", "ok", "failed"]
    assert results[0].array.shape == (0, 64)
    assert results[0].error.stage == "decode"
    assert "none.mp4" in results[2].error.message
    np.testing.assert_allclose(results[1].array, features.array, rtol=1e-4, atol=1e-6)
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        ig65m.extract(broken, model=model)


def test_a_fault_of_the_program_is_not_taken_for_a_bad_video(model, bigbuckbunny, monkeypatch):
    def faulty(*_, **__):
        raise ZeroDivisionError("a bug")
        yield

    monkeypatch.setattr("ig65m.video.sample_reader.read_samples", faulty)
    with pytest.raises(ZeroDivisionError):
        ig65m.extract(bigbuckbunny, model=model, in_process=True)


def test_a_consumer_that_leaves_early_stops_the_reader(model, bigbuckbunny):
    import threading

    results = ig65m.extract_many([bigbuckbunny] * 50, model=model)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ig65m-reader"]


def test_scores_are_the_softmax_and_the_video_is_their_mean(features, model, bigbuckbunny):
    prediction = ig65m.classify(bigbuckbunny, model=model, top_k=11)
    wanted = torch.softmax(torch.from_numpy(features.logits).double(), dim=1).numpy()
    for clip, row in zip(prediction.clips, wanted, strict=True):
        assert [label.score for label in clip.labels] == pytest.approx(sorted(row, reverse=True), rel=1e-4)
        assert clip.labels[0].label == f"class {row.argmax()}"
    assert [label.score for label in prediction.labels] == pytest.approx(sorted(wanted.mean(axis=0), reverse=True), rel=1e-4)
    assert sum(label.score for label in prediction.labels) == pytest.approx(1)
    np.testing.assert_allclose(class_scores(np.array([1000, 0], np.float32)), [1, 0])


@pytest.mark.parametrize(
    ("spatial", "temporal", "shape", "reference"),
    [
        ("max", "mean", (64,), lambda maps: maps.amax((3, 4)).mean(2)),
        ("mean", "max", (64,), lambda maps: maps.mean((3, 4)).amax(2)),
        ("none", "none", (64, 2, 7, 7), lambda maps: maps),
        ("none", "max", (64, 7, 7), lambda maps: maps.amax(2)),
        ("mean", "none", (64, 2), lambda maps: maps.mean((3, 4))),
    ],
)
def test_pooling(spatial, temporal, shape, reference):
    maps = torch.randn(3, 64, 2, 7, 7)
    pooled = pool(maps, Pooling(spatial, temporal))
    assert pooled.shape == (3, *shape)
    torch.testing.assert_close(pooled, reference(maps))


def test_frames_in_memory_are_the_same_video(model):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (20, 120, 160, 3), np.uint8)
    first = ig65m.extract(ig65m.Frames(array, fps=10.0), model=model)
    for call in (ig65m.extract, ig65m.classify, ig65m.classify_clips):
        with pytest.warns(DeprecationWarning, match=r"pass ig65m\.Frames") as warned:
            call(array, fps=10.0, model=model)
        assert warned[0].filename == __file__  # or Python would not show it
    with pytest.warns(DeprecationWarning, match=r"pass ig65m\.Frames"):
        second = ig65m.extract(array, fps=10.0, model=model)
    np.testing.assert_array_equal(first.array, second.array)
    assert [span.start for span in first.spans] == pytest.approx([0.0, 0.8, 1.6])
    assert [span.end for span in first.spans] == pytest.approx([0.8, 1.6, 2.0])
    with pytest.raises(UsageError, match="fps"):
        ig65m.extract(array, model=model)
    with pytest.raises(UsageError, match="RGB bytes"):
        ig65m.extract(ig65m.Frames(array.astype(np.float32), fps=10.0), model=model)


def test_labels_replace_the_models(model, bigbuckbunny, tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([f"name {n}" for n in range(11)]))
    assert ig65m.classify(bigbuckbunny, model=model, labels=path).labels[0].label.startswith("name ")
    path.write_text(json.dumps(["one", "two"]))
    with pytest.raises(UsageError, match="2 labels for the 11 classes"):
        ig65m.classify(bigbuckbunny, model=model, labels=path)


def test_wrong_use_is_named(model, tiny, bigbuckbunny):
    with pytest.raises(ModelError, match="--frames"):
        ig65m.classify(bigbuckbunny, model=tiny)
    with pytest.raises(UsageError, match="vmz, ig65m-pytorch"):
        ig65m.classify(bigbuckbunny, model=model, preprocessing="other")
    with pytest.raises(UsageError, match="batch size"):
        ig65m.classify(bigbuckbunny, model=model, batch_size=0)
    with pytest.raises(UsageError, match="top-k"):
        ig65m.classify(bigbuckbunny, model=model, top_k=0)
    with pytest.raises(TypeError, match="topk"):
        ig65m.classify(bigbuckbunny, model=model, topk=1)
    with pytest.raises(ModelError, match="training mode"):
        ig65m.classify(bigbuckbunny, model=load_model(tiny).train(), frames=8)
    with pytest.raises(UsageError, match="several videos"):
        ig65m.classify_many(str(bigbuckbunny), model=model)
    with pytest.raises(UsageError, match="whole number"):
        ig65m.classify(bigbuckbunny, model=model, frames=8.5)
    with pytest.raises(UsageError, match="at most 10000"):
        ig65m.classify(bigbuckbunny, model=model, frames=2_000_000_000)
    with pytest.raises(UsageError, match="frames a second"):
        ig65m.classify(bigbuckbunny, model=model, image_fps=0)
    with pytest.raises(UsageError, match="has no cuda:9; it has cpu"):
        find_device("cuda:9")
    with pytest.raises(UsageError, match="no device"):
        find_device("abacus")


FLOW, AUDIO_VISUAL = "r2plus1d_34_32_sports1m_kinetics_flow", "ip_csn_152_32_ig65m_imagenet_av"


@pytest.mark.parametrize(
    ("task", "name", "options", "message"),
    [
        (ig65m.classify, FLOW, {}, "takes 2 channels of optical flow"),
        (ig65m.extract, FLOW, {}, "takes 2 channels of optical flow"),
        (ig65m.classify, "c3d_16_kinetics", {"full": True}, "c3d_16_kinetics has no feature maps to slide over"),
        (ig65m.extract, "c3d_16_kinetics", {"pooling": Pooling("none", "mean")}, "no feature maps"),
        (ig65m.extract, "c3d_16_kinetics", {"frames": 8}, "clips of 16 frames only, not of 8"),
        (ig65m.classify, "r2d_18_8_kinetics", {"frames": 16}, "clips of 8 frames only, not of 16"),
        (ig65m.classify, "r2plus1d_34_8_ig65m", {"labels": "kinetics400"}, "400 labels for the 487 classes of r2plus1d_34_8"),
        (ig65m.classify, "c3d_16_sports1m", {"labels": "kinetics400"}, "IG65M_OFFLINE"),  # nobody published how many it has
        (ig65m.classify, AUDIO_VISUAL, {}, "IG65M_OFFLINE"),
    ],
)
def test_what_a_card_forbids_is_refused_before_a_download(task, name, options, message, tmp_path, monkeypatch):
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    monkeypatch.setenv("IG65M_OFFLINE", "1")
    with pytest.raises(IgError, match=message):
        task("video.mp4", model=name, **options)


@pytest.mark.slow
def test_the_originals_preprocessing_gives_the_originals_scores(tmp_path, bikes):
    """A published file's layout and the first extract.py of ig65m-pytorch, written out with OpenCV and torch."""
    reference = random_model(classes=400, seed=3)
    path = tmp_path / "original.pth"
    torch.save(reference.state_dict(), path)

    wanted = []
    video = cv2.VideoCapture(str(bikes))
    for _ in range(2):
        frames = np.stack([cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB) for _ in range(8)])
        x = torch.from_numpy(frames).float().permute(3, 0, 1, 2) / 255
        x = F.interpolate(x, size=(128, 171), mode="bilinear", align_corners=False)
        mean = torch.tensor([0.43216, 0.394666, 0.37645]).view(3, 1, 1, 1)
        std = torch.tensor([0.22803, 0.22145, 0.216989]).view(3, 1, 1, 1)
        x = ((x - mean) / std)[..., 8:120, 30:142]
        with torch.inference_mode():
            wanted.append(F.softmax(reference(x[None]), dim=1)[0].double().numpy())
    video.release()

    prediction = ig65m.classify(bikes, model=path, frames=8, preprocessing="ig65m-pytorch", tail="drop", end=16 / 25, top_k=400)
    assert len(prediction.clips) == 2
    for clip, scores in zip(prediction.clips, wanted, strict=True):
        got = np.zeros(400)
        for label in clip.labels:
            got[int(label.label.removeprefix("class "))] = label.score
        assert np.abs(got - scores).max() < 1e-5 * scores.max()
        assert got.argmax() == scores.argmax()

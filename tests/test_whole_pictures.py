"""Features of whole pictures, as ig65m-pytorch's later `extract` computed them: against its arithmetic in OpenCV and torch."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ig65m
from ig65m.engines.base import Work, check_work
from ig65m.errors import UsageError
from ig65m.models.card import VMZ
from ig65m.models.spec import C3DSpec
from ig65m.search.index import Index
from ig65m.search.query import extractor_for
from ig65m.video.geometry import resized_size
from ig65m.video.reader import read_frames
from ig65m.video.transforms import to_pixels
from ig65m.zoo.load import load_model
from tests.videoresnet import random_model
from tests.videos import encode

WHOLE = {"ig65m-pytorch-2020": None, "ig65m-pytorch-2020-torch1.3": True}
"""Each version, and what it passes to torch as `recompute_scale_factor`: before PyTorch 1.6 that was always so."""


def preprocessing_of(version: str) -> ig65m.Preprocessing:
    return ig65m.Preprocessing(
        resize=128,
        crop=None,
        mean=VMZ.mean,
        std=VMZ.std,
        resampling="float_bilinear" if WHOLE[version] else "float_bilinear_by_scale",
    )


def resized(frames: np.ndarray, version: str) -> torch.Tensor:
    """RGB (T, H, W, 3) -> (3, T, 128, W') from 0 to 1, as its `Resize(128)`."""
    x = torch.from_numpy(frames).float().permute(3, 0, 1, 2) / 255
    scale = 128.0 / min(x.shape[-2:])
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=WHOLE[version])


def original_input(path: object, clips: int, frames: int, version: str) -> torch.Tensor:
    capture = cv2.VideoCapture(str(path))
    mean = torch.tensor([0.43216, 0.394666, 0.37645]).view(3, 1, 1, 1)
    std = torch.tensor([0.22803, 0.22145, 0.216989]).view(3, 1, 1, 1)
    each = []
    for _ in range(clips):
        rgb = np.stack([cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(frames)])
        each.append((resized(rgb, version) - mean) / std)
    capture.release()
    return torch.stack(each)


@pytest.mark.slow
@pytest.mark.parametrize("version", WHOLE)
def test_its_features_are_reproduced(version, tmp_path, bikes):
    reference = random_model(classes=359, seed=4)
    path = tmp_path / "original.pth"
    torch.save(reference.state_dict(), path)
    with torch.inference_mode():
        maps = original_input(bikes, 2, 8, version)
        for part in (reference.stem, reference.layer1, reference.layer2, reference.layer3, reference.layer4):
            maps = part(maps)
    wanted = maps.amax((3, 4)).mean(2).numpy()
    features = ig65m.extract(
        bikes, model=path, frames=8, preprocessing=version, tail="drop", end=16 / 25, pooling=ig65m.Pooling("max", "mean")
    )
    assert features.array.shape == (2, 512)
    assert np.abs(features.array - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "pytorch"])
@pytest.mark.parametrize("version", WHOLE)
def test_videos_of_several_sizes_share_an_engine(version, engine, tiny_model, bikes, bigbuckbunny):
    """Clips of different sizes never share a batch; each result is that of the plain network."""
    model = load_model(tiny_model)
    extractor = ig65m.Extractor(
        tiny_model, preprocessing=version, engine=engine, batch_size=3, end=0.7, tail="drop", logits=True
    )
    for features, path in zip(extractor.extract_many([bikes, bigbuckbunny]), [bikes, bigbuckbunny], strict=True):
        x = original_input(path, 2, 8, version)
        with torch.inference_mode():
            maps = model.forward_features(x)
            wanted, logits = model.forward_head(maps, pre_logits=True).numpy(), model.forward_head(maps).numpy()
        assert features.status == "ok"
        assert np.abs(features.array - wanted).max() < 1e-5 * np.abs(wanted).max()
        assert np.abs(features.logits - logits).max() < 1e-5 * np.abs(logits).max()


def test_threads_with_videos_of_several_sizes_share_an_extractor(tiny_model, bikes, bigbuckbunny):
    alone = {path: ig65m.extract(path, model=tiny_model, preprocessing="ig65m-pytorch-2020") for path in (bikes, bigbuckbunny)}
    extractor = ig65m.Extractor(tiny_model, preprocessing="ig65m-pytorch-2020", shared=True, batch_size=4)
    with ThreadPoolExecutor(4) as pool:
        for path, features in pool.map(lambda path: (path, extractor.extract(path)), [bikes, bigbuckbunny] * 2):
            np.testing.assert_allclose(features.array, alone[path].array, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(98, 103), (130, 98), (1920, 1080), (64, 64), (171, 128), (333, 187)])
@pytest.mark.parametrize("version", WHOLE)
def test_pictures_are_torchs(version, size):
    width, height = size
    picture = np.random.default_rng(5).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    [frame] = read_frames(ig65m.Frames(picture, fps=25))
    wanted = resized(picture, version)[:, 0].permute(1, 2, 0).numpy() * 255
    pixels = to_pixels(frame, preprocessing_of(version))
    assert pixels.shape == wanted.shape == (*resized_size(preprocessing_of(version), height, width), 3)
    assert np.abs(pixels - wanted).max() < 2e-2  # of 255; positions are float32


@pytest.mark.parametrize("in_process", [True, False])
def test_clips_far_apart_are_those_of_decoding_everything(in_process, bikes):
    """Clips with gaps are sought; their size travels with them."""
    preprocessing, sampling = preprocessing_of("ig65m-pytorch-2020"), ig65m.Sampling(frames=4, stride=60)
    sought = list(ig65m.read_clips(bikes, sampling, preprocessing, in_process=in_process))
    whole = list(ig65m.read_clips(bikes, ig65m.Sampling(frames=4, stride=4), preprocessing, in_process=True))
    assert all(clip.sought for clip in sought)
    assert not any(clip.sought for clip in whole)
    for clip, wanted in zip(sought, whole[::15], strict=False):
        assert clip.pixels.shape == (4, 128, 301, 3)
        assert np.array_equal(clip.pixels, wanted.pixels)


def test_a_video_ends_where_its_pictures_change_their_size(tiny_model, tmp_path):
    parts = []
    for number, (width, height) in enumerate([(160, 96), (96, 160)]):
        pictures = np.random.default_rng(number).integers(0, 256, (12, height, width, 3), dtype=np.uint8)
        parts.append(encode(tmp_path / f"{number}.ts", pictures, [40 * n for n in range(12)]).read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    features = next(iter(ig65m.extract_many([path], model=tiny_model, preprocessing="ig65m-pytorch-2020")))
    assert (features.status, len(features.array)) == ("partial", 2)
    assert "both.ts: the size of its whole pictures changes from 213x128 to 128x213 at" in features.error.message
    assert features.error.last_good_time == features.spans[-1].end
    assert ig65m.extract(path, model=tiny_model).status == "ok"


def test_what_needs_one_size_is_refused(tiny_model, bikes):
    with pytest.raises(UsageError, match="without a crop, resize must be a shorter edge and crops 1"):
        ig65m.Preprocessing(resize=(128, 171), crop=None, mean=VMZ.mean, std=VMZ.std)
    with pytest.raises(UsageError, match="crops 1"):
        ig65m.classify(bikes, model=tiny_model, preprocessing="ig65m-pytorch-2020", crops=3)
    with pytest.raises(UsageError, match="already sees whole pictures"):
        ig65m.classify(bikes, model=tiny_model, preprocessing="ig65m-pytorch-2020", full=True)
    work = Work(preprocessing=preprocessing_of("ig65m-pytorch-2020"), frames=16)
    with pytest.raises(UsageError, match="C3D takes pictures of 112x112 only"):
        check_work(C3DSpec(classes=5), work)


@pytest.mark.parametrize("version", WHOLE)
def test_an_index_of_such_features_is_searched_with_them(version, tiny_model, bikes, tmp_path, run):
    options = ["--model", tiny_model, "--preprocessing", version]
    assert run("extract", bikes, *options, "--output", tmp_path / "features")[0] == 0
    assert run("index", "build", tmp_path / "features", tmp_path / "index")[0] == 0
    extractor = extractor_for(Index.open(tmp_path / "index"), tiny_model)
    assert extractor.settings["preprocessing"] == asdict(preprocessing_of(version))

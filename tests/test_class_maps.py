"""Class activation maps against hooks, numpy and captum; where they are drawn; and whether they find what moves."""

import json
import subprocess
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn

import ig65m
from ig65m.errors import UsageError
from ig65m.explain.class_maps import ClassMapper, ClipMap, Head, VideoMaps
from ig65m.explain.grad_cam import grad_cam, grad_cam_maps
from ig65m.explain.overlay import _Drawing
from ig65m.explain.video_file import write_video
from ig65m.models.c3d import C3D
from ig65m.models.network import network, weights_of
from ig65m.models.receptive_field import centres
from ig65m.models.spec import C3DSpec
from ig65m.tasks.options import Options
from ig65m.types import ClipSpan
from ig65m.zoo.cards import CARDS
from ig65m.zoo.load import load_model, load_weights

pytestmark = pytest.mark.slow
MODEL = "r2plus1d_10_camera_motion"


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL)


def first_clip(path, model):
    card = model.card
    sampling = ig65m.Sampling(frames=card.frames, frame_step=card.frame_step)
    clip = next(ig65m.read_clips(path, sampling, card.preprocessing))
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (card.preprocessing.mean, card.preprocessing.std))
    return (torch.from_numpy(clip.pixels[None].copy()).permute(0, 4, 1, 2, 3).float() - mean) / std


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "pytorch"])
def test_a_map_is_the_last_layers_weights_times_a_hook_on_its_input(engine, model, bikes):
    x, seen = first_clip(bikes, model), []
    hook = model.layer4.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        logits = model(x)[0].numpy()
    hook.remove()
    features = seen[0][0].numpy()
    number = model.card.labels.index("tilt_up")
    weight, bias = model.fc.weight.detach().numpy()[number], model.fc.bias.detach().numpy()[number]
    wanted = np.einsum("c,cthw->thw", weight, features) + bias
    found = ClassMapper(Options(model=MODEL, engine=engine, end=1.0)).maps(bikes, label="tilt_up")
    assert np.abs(found.maps[0].values - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert found.maps[0].values.mean() == pytest.approx(logits[number], rel=1e-4)
    assert found.maps[0].score == pytest.approx(float(torch.softmax(torch.from_numpy(logits), 0)[number]), rel=1e-4)


def test_without_a_label_each_clip_has_its_best(bikes):
    found = ClassMapper(Options(model=MODEL)).maps(bikes)
    prediction = ig65m.classify(bikes, model=MODEL, top_k=1)
    assert [each.label for each in found.maps] == [clip.labels[0].label for clip in prediction.clips]
    assert [each.span.start for each in found.maps] == [clip.start for clip in prediction.clips]


@pytest.mark.parametrize("layer", ["stem", "layer2", "layer3.0.conv1.0.1", "layer4"])
def test_grad_cam_is_captums(layer, model, bikes):
    from captum.attr import LayerGradCam

    x = first_clip(bikes, model)
    wanted = LayerGradCam(model, model.get_submodule(layer)).attribute(x, target=3)[0, 0].detach()
    values, logits, number = grad_cam(model, x, layer, 3)
    assert number == 3
    torch.testing.assert_close(values, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(x)[0])


def test_grad_cam_of_the_last_layer_is_the_exact_map_but_for_a_constant(bikes):
    """The gradient of the mean is 1/(T'H'W') everywhere; the bias has none."""
    exact = ClassMapper(Options(model=MODEL, end=1.5)).maps(bikes, label="static")
    gradients = grad_cam_maps(bikes, Options(model=MODEL, end=1.5), "layer4", label="static")
    bias = load_weights(MODEL).arrays["fc.bias"][load_weights(MODEL).card.labels.index("static")]
    for one, other in zip(exact.maps, gradients.maps, strict=True):
        assert (one.span, one.label) == (other.span, other.label)
        np.testing.assert_allclose(other.values * other.values.size, one.values - bias, rtol=1e-4, atol=1e-4)


def half_moving(picture, half, step):
    """48 frames of 128x128; the content of one half moves by `step` (down, right) pixels a frame, the other stands still."""
    frames = []
    for number in range(48):
        down, right = (number * each for each in step)
        moved = np.roll(picture, (down, right), (0, 1))[100:228, 120:248]
        frame = picture[100:228, 120:248].copy()
        frame[half] = moved[half]
        frames.append(frame)
    return ig65m.Frames(np.stack(frames), fps=25)


HALVES = {"left": np.s_[:, :64], "right": np.s_[:, 64:], "top": np.s_[:64], "bottom": np.s_[64:]}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("step", "label"), [((0, -2), "pan_right"), ((0, 2), "pan_left"), ((-2, 0), "tilt_down")])
def test_what_moves_is_found_in_its_half(half, step, label):
    found = ClassMapper(Options(model=MODEL)).maps(half_moving(data.coffee(), HALVES[half], step), label=label)
    values = sum(np.clip(each.values, 0, None).mean(0) for each in found.maps)  # (4, 4)
    own = values[tuple(slice(part.start and 2, part.stop and 2) for part in np.index_exp[HALVES[half]])]
    assert own.sum() > 0.8 * values.sum()


@pytest.mark.parametrize("name", ["r2plus1d_34_8_kinetics", "ir_csn_152_32_ig65m_kinetics", MODEL, "r2d_18_8_kinetics"])
def test_centres_are_where_the_gradient_of_an_output_is_centred(name):
    """The receptive field of an output in the middle, measured: a network of ones, and what its input changes."""
    spec = replace(CARDS[name].spec, depth=10 if not CARDS[name].spec.bottleneck else 26)
    model = network(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    for number, module in enumerate(model.stem):
        if isinstance(module, nn.MaxPool3d):  # whose gradient reaches one input only
            model.stem[number] = nn.AvgPool3d(module.kernel_size, module.stride, module.padding)
    frames = spec.clip_frames or 33
    for layer in ("stem", "layer1", "layer2.0.conv1"):
        x = torch.ones(1, 3, frames, 129, 129, requires_grad=True)
        output = model.forward_layer(x, layer)
        place = [size // 2 for size in output.shape[2:]]
        [gradient] = torch.autograd.grad(output[0, :, place[0], place[1], place[2]].sum(), x)
        found = centres(spec, layer, frames)
        for axis in range(3):
            reached = torch.nonzero(gradient.abs().sum([n for n in range(5) if n != axis + 2])).flatten()
            wanted = found.offset[axis] + found.stride[axis] * place[axis]
            if (reached[0] > 0 and reached[-1] < x.shape[axis + 2] - 1) or axis:
                assert (reached[0] + reached[-1]).item() / 2 == pytest.approx(wanted), (layer, axis)


def test_centres_of_c3d_lie_between_pixels():
    """Its pools have no padding: the first one's output 0 is the maximum of pixels 0 and 1."""
    assert centres(C3DSpec(classes=2), "pool1", 16).offset == (0.0, 0.5, 0.5)
    assert centres(C3DSpec(classes=2), "pool2", 16).offset == (0.5, 1.5, 1.5)
    assert centres(C3DSpec(classes=2), "pool2", 16).stride == (2, 4, 4)


@pytest.mark.parametrize("layer", [None, "layer2"])
def test_an_overlay_plays_and_lights_up_the_half_that_moves(layer, tmp_path, run):
    """Read back by FFmpeg: codec, size, duration; and the colour over still and moving halves of a grey picture."""
    source, out = tmp_path / "half.mp4", tmp_path / "where.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    grey = np.repeat(np.array(Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC))[..., None], 3, 2)
    write_video(source, half_moving(grey, HALVES["left"], (0, -2)).array, 25)
    options = ["--model", MODEL, "--label", "pan_right"] + (["--layer", layer] if layer else [])
    code, stdout, err = run("explain", "cam", source, out, *options)
    assert code == 0, err
    assert "half.mp4 -> " in stdout
    probe = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", out]
    [stream] = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)["streams"]
    assert (stream["codec_name"], stream["pix_fmt"], stream["width"], stream["height"]) == ("h264", "yuv420p", 360, 360)
    assert float(stream["duration"]) == pytest.approx(48 / 25, abs=0.05)
    with av.open(str(out)) as video:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]).astype(int)
    colour = (pictures.max(-1) - pictures.min(-1))[:, 60:].mean((0, 1))  # below the writing
    assert colour[:150].mean() > 3 * colour[210:].mean()


def colour_of(found, times):
    """The mean colour of a grey picture at each time."""
    drawing = _Drawing(found, 64, 96)
    grey = np.full((64, 96, 3), 128, np.uint8)
    pictures = [drawing.over(grey, time)[20:].astype(int) for time in times]
    return [float((picture.max(-1) - picture.min(-1)).mean()) for picture in pictures]


def made(*clips, frames=8, step=1):
    """Maps of one value each: (first frame, real frames, values along time) at 10 frames a second."""
    card = CARDS[MODEL]
    maps = [
        ClipMap(
            ClipSpan(first / 10, (first + (real - 1) * step + 1) / 10, first, first + (real - 1) * step),
            *("static", 0.5, np.full((len(values), 4, 4), np.reshape(values, (-1, 1, 1)), np.float32), (64, 96)),
        )
        for first, real, values in clips
    ]
    return VideoMaps(tuple(maps), None, card, card.preprocessing, ig65m.Sampling(frames=frames, frame_step=step), "layer4")


def test_values_are_drawn_at_their_times():
    """Of 32 frames, values are centred at frames 0, 8, 16 and 24; a clip that is padded from frame 12 on ends there."""
    found = made((0, 32, [0, 4, 0, 0]), frames=32)
    assert found.times(found.maps[0]) == pytest.approx((0, 0.8, 1.6, 2.4))
    colours = colour_of(found, [0, 0.4, 0.8, 1.2, 1.6, 3.1])
    assert colours[0] == colours[4] == colours[5] == 0
    assert colours[2] > max(colours[1], colours[3]) > 0
    short = made((0, 12, [0, 4, 0, 0]), frames=32)
    assert short.times(short.maps[0]) == pytest.approx((0, 0.8, 1.2, 1.2))
    spread = made((0, 16, [0, 4]), frames=16, step=2)
    assert spread.times(spread.maps[0]) == pytest.approx((0, 1.6 * 31 / 31))


def test_the_nearest_clip_is_drawn_and_none_in_a_gap():
    overlapping = made((0, 8, [4]), (4, 8, [0]))  # 0 to 0.8 s, 0.4 to 1.2 s: half way is 0.6 s
    before, after = colour_of(overlapping, [0.55, 0.65])
    assert before > 0 == after
    grey = np.full((64, 96, 3), 128, np.uint8)
    apart = _Drawing(made((0, 8, [4]), (20, 8, [4])), 64, 96)
    assert np.array_equal(apart.over(grey, 1.0), grey)
    assert not np.array_equal(apart.over(grey, 2.1), grey)


def test_pictures_and_arrays(run, bikes, tmp_path):
    options = ["--model", MODEL, "--end", 1.5]
    assert run("explain", "cam", bikes, tmp_path / "maps.npz", *options)[0] == 0
    with np.load(tmp_path / "maps.npz") as file:
        info = json.loads(str(file["info"]))
        wanted = ClassMapper(Options(model=MODEL, end=1.5)).maps(bikes)
        assert info["layer"] == "layer4"
        assert info["centres"]["stride"] == [8, 16, 16]
        np.testing.assert_array_equal(file["values"], np.stack([each.values for each in wanted.maps]))
        assert file["labels"].tolist() == [each.label for each in wanted.maps]
        assert file["spans"].shape == (len(wanted.maps), 2)
    assert run("explain", "cam", bikes, tmp_path / "pictures", *options, "--fps", 10, "--size", 128)[0] == 0
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 15
    with Image.open(pictures[0]) as picture:
        assert picture.size == (300, 128)


def test_a_video_that_breaks_off_is_drawn_as_far_as_it_goes(run, bikes, tmp_path):
    cut = tmp_path / "cut.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", bikes, "-c", "copy", "-movflags", "+faststart", cut], check=True)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    code, _, err = run("explain", "cam", cut, tmp_path / "where.mp4", "--model", MODEL)
    assert code == 3
    assert "partial" in err
    assert (tmp_path / "where.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "pan_lef"], "has no label 'pan_lef'; did you mean one of 'pan_left'"),
        (["--layer", "layer9"], "has no layer 'layer9'"),
        (["--layer", "layer2", "--engine", "openvino"], "Grad-CAM needs gradients"),
        (["--fps", "0"], "--fps must be from 1"),
        (["--size", "9"], "--size must be from 64"),
    ],
)
def test_what_is_refused(options, message, run, bikes, tmp_path):
    code, _, err = run("explain", "cam", bikes, tmp_path / "where.mp4", "--model", MODEL, *options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "where.mp4").exists()


def test_places_that_cannot_be_written(run, bikes, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    (tmp_path / "there.npz").touch()
    for name, message in {
        "where.avi": "expected a name that ends in .mp4 or .npz",
        "full": "not an empty folder",
        "there.npz": "already exists",
    }.items():
        code, _, err = run("explain", "cam", bikes, tmp_path / name, "--model", MODEL)
        assert code == 2
        assert message in err


def test_c3d_has_maps_by_gradients_only(bikes, tmp_path):
    model = C3D(C3DSpec(classes=5)).eval()
    model.card = ig65m.Card(name="c3d", spec=model.spec, frames=16)
    with pytest.raises(UsageError, match="ends in fully connected layers; choose a layer before, with --layer pool5"):
        Head.of(weights_of(model))
    values, _, _ = grad_cam(model, torch.randn(1, 3, 16, 112, 112), "pool5", None)
    assert values.shape == (1, 3, 3)

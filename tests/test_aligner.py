"""The aligner: moves made by OpenCV, the same function in three engines, and its algebra against numpy's."""

import cv2
import numpy as np
import onnxruntime
import pytest
import skimage.data
import torch

from ig65m.engines.openvino import compiled
from ig65m.models.aligner import Aligner, bounds_of, equations, solved
from ig65m.models.aligner_plan import CALIBRATION, CELLS, EDGE, PAIRS, SIZES, WINDOW, coordinates, shapes
from ig65m.motion.clip_motion import EDGE as EDGE_SHARES
from ig65m.motion.fit import fit
from ig65m.motion.graph import graph_of
from ig65m.motion.weights import load_weights


def weighs_alike(seed: int = 0) -> Aligner:
    """An aligner that gives all cells the same weight, so that nothing is learned."""
    torch.manual_seed(seed)
    network = Aligner().eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            network.get_parameter(f"cell.{name}").zero_()
    return network


def seen(picture: np.ndarray, size: tuple[int, int], move: np.ndarray) -> np.ndarray:
    """The picture under a move of its content in pixels, (2, 3), as the network sees it: (96, 96, 3)."""
    moved = cv2.warpAffine(picture, move, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return cv2.resize(moved, (EDGE, EDGE), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (480, 480)])
@pytest.mark.parametrize(
    ("pan", "tilt", "zoom", "roll"),
    [
        (0.006, 0, 0, 0),
        (0, -0.006, 0, 0),
        (0, 0, 0.006, 0),
        (0, 0, 0, 0.4),
        (0.05, -0.03, 0.04, 3.0),
        (0.1, 0, 0, 0),
        (0, 0, 0, 0),
    ],
)
def test_moves_by_opencv_are_measured(size, pan, tilt, zoom, roll):
    width, height = size
    centre = (width / 2, height / 2)
    turn = cv2.getRotationMatrix2D(centre, roll, np.exp(zoom))  # OpenCV's angles are counter-clockwise, as the content's
    turn[:, 2] += (-pan * width, tilt * height)
    photograph = skimage.data.astronaut()
    cover = cv2.getRotationMatrix2D((256, 256), 0, max(size) / 512 * 1.3)
    cover[:, 2] += (centre[0] - 256, centre[1] - 256)
    both = (np.vstack([turn, [0, 0, 1]]) @ np.vstack([cover, [0, 0, 1]]))[:2]
    clip = torch.from_numpy(np.stack([seen(photograph, size, cover), seen(photograph, size, both)])[None])
    with torch.inference_mode():
        alignment = weighs_alike()(clip, [(0, 1)])
        similar, _ = fit(torch, *alignment[:3], torch.tensor([width / height]))
    a, b, s, r = similar[0].tolist()
    found = np.array([-a, b, np.log(np.hypot(1 + s, r)), -np.degrees(np.arctan2(r, 1 + s))])
    assert found * EDGE_SHARES == pytest.approx(np.array([pan, tilt, zoom, roll]) * EDGE_SHARES, rel=0.05, abs=4e-4)


def barred(picture: np.ndarray, across: int, down: int) -> np.ndarray:
    """The frame with black bars, not quite black, of that many pixels at its left and right, top and bottom."""
    result = picture.copy()
    bars = np.ones(picture.shape[:2], bool)
    bars[down : EDGE - down, across : EDGE - across] = False
    result[bars] = np.random.default_rng(0).integers(0, 8, (bars.sum(), 3))
    return result


@pytest.mark.parametrize(("across", "down"), [(0, 0), (0, 12), (0, 5), (27, 0), (9, 15)])
def test_black_bars_are_no_part_of_the_picture(across, down):
    """All cells weigh alike, so nothing but the bounds of the picture keeps its bars from standing still."""
    photograph = skimage.data.astronaut()
    cover = cv2.getRotationMatrix2D((256, 256), 0, 0.9)
    cover[:, 2] -= 256 - 180
    moved = cover.copy()
    moved[:, 2] -= (0.03 * 360, 0.02 * 360)
    frames = [barred(seen(photograph, (360, 360), each), across, down) for each in (cover, moved)]
    bounds = bounds_of(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float())
    ends = np.array([[across, EDGE - across], [down, EDGE - down]])
    assert (bounds.numpy() + 1) * EDGE / 2 == pytest.approx(np.stack([ends] * 2), abs=1e-4)
    with torch.inference_mode():
        alignment = weighs_alike()(torch.from_numpy(np.stack(frames)[None]), [(0, 1)])
        similar, _ = fit(torch, *alignment[:3], torch.tensor([1.0]))
    assert similar[0].numpy() == pytest.approx([-0.03, -0.02, 0, 0], abs=1.5e-3)


def test_a_black_clip_does_not_move():
    with torch.inference_mode():
        alignment = weighs_alike()(torch.zeros(1, 2, EDGE, EDGE, 3, dtype=torch.uint8), [(0, 1)])
        found, covariance = fit(torch, *alignment[:3], torch.ones(1))
    assert found.abs().max() < 1e-6
    assert torch.isfinite(covariance).all()


def test_elimination_solves_as_numpy():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 6, 9))
    normal, target = root @ root.transpose(0, 2, 1), rng.normal(size=(5, 6))
    found = solved(torch.from_numpy(normal), torch.from_numpy(target)).numpy()
    assert found == pytest.approx(np.linalg.solve(normal, target[..., None])[..., 0], rel=1e-9)


def test_normal_equations_are_those_of_the_pixels():
    rng = np.random.default_rng(1)
    right, down, change = rng.normal(size=(3, 2, 64)).astype(np.float32)
    places = coordinates(8)
    products = np.stack([right * right, right * down, down * down, right * change, down * change], 1)
    normal, target = equations(torch.from_numpy(products), torch.from_numpy(places))
    for pair in range(2):
        rows = np.concatenate([right[pair] * places, down[pair] * places]).T  # (pixels, 6)
        assert normal[pair].numpy() == pytest.approx(rows.T @ rows, rel=1e-4, abs=1e-3)
        assert target[pair].numpy() == pytest.approx(-rows.T @ change[pair], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("aspect", [16 / 9, 1.0, 9 / 16])
def test_a_similarity_is_found_again_from_a_start_near_it(aspect):
    a, b, s, r = 0.03, -0.02, 0.04, 0.05
    whole = np.array([2 * a, s, -r / aspect, 2 * b, r * aspect, s])
    start = whole + np.random.default_rng(2).normal(0, 0.01, 6)
    # The rest, in the coordinates of the aligned frame: W(x + d(x)) = x + whole(x).
    linear = np.array([[1 + start[1], start[2]], [start[4], 1 + start[5]]])
    rest = np.kron(np.linalg.inv(linear), np.eye(3)) @ (whole - start)
    root = np.random.default_rng(3).normal(size=(6, 20))
    normal = root @ root.T * 1e4
    found, covariance = fit(np, start[None], normal[None], (normal @ rest)[None], np.array([aspect]))
    assert found[0] == pytest.approx([a, b, s, r], rel=1e-6)
    assert (np.linalg.eigvalsh(covariance[0]) > 0).all()


def test_a_covariance_is_that_of_repeated_noise():
    """Without a start, and with all in one scale, fit is weighted least squares; its covariance is that of its errors."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(400, 6))
    normal = rows.T @ rows
    targets = rng.normal(size=(3000, 400)) @ rows
    found, covariance = fit(np, np.zeros((3000, 6)), np.broadcast_to(normal, (3000, 6, 6)), targets, np.full(3000, 1.5))
    assert np.cov(found.T) == pytest.approx(covariance[0], rel=0.15, abs=2e-5)


@pytest.mark.parametrize("start", [(0, -1, 0, 0, 0, -1), (0, -2, 0, 0, 0, 0), (0, 0, 1, 0, 1, 0), (0, -0.98, 0, 0, 0, -0.98)])
def test_an_alignment_that_crushes_or_mirrors_the_picture_has_a_solution(start):
    """(0, 0, 1, 0, 1, 0) maps all points to a line, so it has no inverse."""
    start = np.array([start], float)
    for xp, made in ((np, np.asarray), (torch, torch.from_numpy)):
        arrays = [made(array) for array in (start, np.eye(6)[None] * 1e4, np.ones((1, 6)), np.ones(1))]
        found, covariance = fit(xp, *arrays)
        assert np.isfinite(np.asarray(found)).all()
        assert np.isfinite(np.asarray(covariance)).all()
        assert np.abs(np.asarray(found)).max() < 3


@pytest.fixture(scope="module")
def chunk() -> np.ndarray:
    """A chunk (1, WINDOW, 96, 96, 3) of a photograph that moves."""
    photograph = skimage.data.coffee()
    frames = [photograph[30 + 2 * index : 318 + 2 * index : 3, 40 + 5 * index : 328 + 5 * index : 3] for index in range(WINDOW)]
    return np.stack(frames)[None]


@pytest.mark.parametrize("bars", [(0, 0), (0, 12), (25, 7)])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_graph_is_the_function_of_the_module(chunk, engine, bars):
    chunk = np.stack([barred(frame, *bars) for frame in chunk[0]])[None]
    weights = load_weights()
    network = Aligner().eval()
    network.load_state_dict({key: torch.from_numpy(weights.arrays[key]) for key in shapes()})
    with torch.inference_mode():
        alignment = network(torch.from_numpy(chunk), PAIRS)
    expected = [part.numpy() for part in alignment[:4]]
    model = graph_of(weights).SerializeToString()
    if engine == "openvino":
        rows = np.array(compiled(model, "fp32", 1).create_infer_request().infer({"pixels": chunk})[0])
    else:
        (rows,) = onnxruntime.InferenceSession(model).run(None, {"pixels": chunk})
    start, normal, target, judged = np.split(rows, np.cumsum(SIZES)[:-1], axis=1)
    assert start == pytest.approx(expected[0], abs=1e-4)  # 0.005 pixels
    assert judged == pytest.approx(expected[3], rel=1e-3, abs=1e-4)
    aspect = np.full(len(PAIRS), 1.5)
    found, covariance = fit(np, start.astype(float), normal.reshape(-1, 6, 6).astype(float), target.astype(float), aspect)
    wanted, spread = fit(np, *(part.astype(float) for part in expected[:3]), aspect)
    assert found == pytest.approx(wanted, abs=2e-4)
    sigma = np.sqrt(np.diagonal(spread, axis1=1, axis2=2))
    unit = sigma[:, :, None] * sigma[:, None]
    assert covariance / unit == pytest.approx(spread / unit, abs=5e-2)


def test_the_plan_names_the_weights_and_where_cells_are():
    assert {key: tuple(value.shape) for key, value in Aligner().state_dict().items()} == shapes()
    assert set(CALIBRATION) & set(shapes()) == set()
    one, x, y = coordinates(CELLS)
    assert (one == 1).all()
    assert (x[0], x[-1], y[0], y[-1]) == pytest.approx((-23 / 24, 23 / 24, -23 / 24, 23 / 24))
    assert x[1] - x[0] == pytest.approx(2 / 24)
    assert y[1] == y[0]

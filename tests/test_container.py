"""The container image: built from the Containerfile without a daemon, and run as its user.

The base image is a Debian made here, since no registry is asked; the wheels come from where this environment has its own from.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ig65m.zoo.cards import EMBEDDED

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "src" / "ig65m" / "demo" / "clip.mp4"
SUITE = "bookworm"  # the Debian of the default base image; it has the same Python
PYTHON = "3.11"
USER = 10001
TOKEN = "a-token-of-this-test"
PROGRAMS = ("buildah", "mmdebstrap", "nsenter", "unshare")
MISSING = [program for program in PROGRAMS if shutil.which(program) is None] + ["root"] * (os.geteuid() != 0)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"building a container needs {', '.join(MISSING)}"),
]

# A network of its own: the port of the image may be in use on this machine.
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
ASK = """
import http.client, os, sys
service = http.client.HTTPConnection("127.0.0.1", 8000)
headers = {"Authorization": "Bearer " + os.environ["IG65M_TOKEN"]} if "IG65M_TOKEN" in os.environ else {}
service.request("POST", "/api/classify", open("/videos/clip.mp4", "rb").read(), headers)
answer = service.getresponse()
print(answer.status, answer.read().decode())
"""


@dataclass
class Image:
    """An image, a container of it, and folders of this machine that are mounted in the container."""

    storage: tuple[str, ...]
    container: str
    config: dict[str, Any]
    data: Path
    videos: Path

    def command(self, *words: str, read_only: bool = True, env: dict[str, str] | None = None) -> list[str]:
        """What runs in the container, as its user."""
        mounts = [f"{self.data}:/data:{'ro' if read_only else 'rw'}", f"{self.videos}:/videos:ro"]
        options = [part for mount in mounts for part in ("--volume", mount)]
        options += [part for name, value in (env or {}).items() for part in ("--env", f"{name}={value}")]
        return ["buildah", *self.storage, "run", "--isolation", "chroot", *options, self.container, "--", *words]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words, **options), capture_output=True, text=True, check=False)

    @property
    def default(self) -> list[str]:
        return [*self.config["Entrypoint"], *self.config["Cmd"]]


def done(*command: str, **options: Any) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished.stdout.strip()


def wheels(folder: Path) -> None:
    """Download what the build installs: in it, pip cannot have the settings of this environment."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    done(*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("ig65m-*.whl")
    binary = ("--only-binary", ":all:", "--python-version", PYTHON)
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    done(*pip, "download", *binary, *constraints, "--dest", str(folder), "hatchling", f"ig65m[serve] @ {wheel.as_uri()}")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("container")
    storage = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver", "vfs")
    buildah = ("buildah", *storage)
    try:
        base = folder / "base.tar"
        done("mmdebstrap", "--variant=minbase", "--include=python3,python3-venv", SUITE, str(base))
        scratch = done(*buildah, "from", "scratch")
        done(*buildah, "add", "--quiet", scratch, str(base), "/")
        done(*buildah, "commit", "--quiet", "--rm", scratch, "localhost/base")
        base.unlink()
        wheels(folder / "wheels")
        (folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        how = ("--isolation", "chroot", "--format", "docker", "--pull=never", "--build-arg", "BASE=localhost/base")
        mounts = ("--volume", f"{folder}/wheels:/wheels:ro", "--volume", f"{folder}/pip.conf:/etc/pip.conf:ro")
        done(*buildah, "build", *how, *mounts, "--tag", "localhost/ig65m", str(ROOT))
        container = done(*buildah, "from", "--pull=never", "localhost/ig65m")
        config = json.loads(done(*buildah, "inspect", "--type", "image", "localhost/ig65m"))["Docker"]["config"]
        data, videos = folder / "data", folder / "videos"
        data.mkdir()
        os.chown(data, USER, USER)
        videos.mkdir()
        shutil.copy(CLIP, videos)
        yield Image(storage, container, config, data, videos)
    finally:
        shutil.rmtree(folder)


def test_the_base_image_is_such_a_debian():
    assert f"ARG BASE=docker.io/library/python:{PYTHON}-slim-{SUITE}\n" in (ROOT / "Containerfile").read_text("utf-8")


def test_it_runs_as_a_user_who_can_change_nothing_of_the_program(image):
    assert image.config["User"] == f"{USER}:{USER}"
    assert image.run("id", "-u").stdout.strip() == str(USER)
    assert image.run("touch", "/opt/ig65m/new").returncode != 0
    assert image.run("touch", "/cache/new").returncode == 0
    for tool in ("pip", "gcc", "make"):
        assert image.run("sh", "-c", f"command -v {tool}").returncode != 0
    assert image.run("python", "-m", "pip").returncode != 0


def test_without_a_token_it_does_not_serve(image):
    refused = image.run(*image.default)
    assert refused.returncode == 2
    assert "set a token" in refused.stderr


def test_from_a_folder_of_videos_to_a_service(image, tmp_path):
    """As docs/container.md says: extract, index, serve."""
    for words in (
        ("extract", "/videos", "--output", "features", "--model", EMBEDDED, "--stride", "8", "--top-k", "3"),
        ("index", "build", "features", "index"),
    ):
        finished = image.run(*image.config["Entrypoint"], *words, read_only=False)
        assert finished.returncode == 0, finished.stderr
    token = {"IG65M_TOKEN": TOKEN}
    log = tmp_path / "log"
    start = ["unshare", "--net", sys.executable, "-c", LOOPBACK_UP, *image.command(*image.default, env=token)]
    with log.open("wb") as said, subprocess.Popen(start, stdout=said, stderr=said) as process:
        try:
            until = time.monotonic() + 120
            while "serving at http://0.0.0.0:8000/" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, "it does not start"
                time.sleep(0.1)
            beside = ("nsenter", "--target", str(process.pid), "--net")
            kind, *health = image.config["Healthcheck"]["Test"]
            assert kind == "CMD"
            assert done(*beside, *image.command(*health, env=token)) == ""
            for env in ({}, {"IG65M_TOKEN": "another-token-than-that"}):
                assert subprocess.run([*beside, *image.command(*health, env=env)], check=False).returncode != 0
            status, answer = done(*beside, *image.command("python", "-c", ASK, env=token)).split(" ", 1)
            assert (status, json.loads(answer)["status"]) == ("200", "ok")
            assert done(*beside, *image.command("python", "-c", ASK)).startswith("401 ")
            programs = [each for each in psutil.Process(process.pid).children(recursive=True) if "ig65m" in str(each.cmdline())]
            served = [each for each in programs if set(each.uids()) == {USER} and set(each.gids()) == {USER}]
            assert any("serve" in each.cmdline() and each.cmdline()[1].endswith("ig65m") for each in served)
            for each in served:
                facts = Path(f"/proc/{each.pid}/status").read_text()
                assert "CapEff:\t0000000000000000" in facts
        finally:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()

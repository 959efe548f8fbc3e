"""The wheel without extras in an environment of its own, without PyTorch: the same numbers as in this one."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import ig65m
from ig65m.errors import CheckpointError
from ig65m.zoo.cards import EMBEDDED
from ig65m.zoo.files import read_pth
from ig65m.zoo.load import load_weights
from tests.conftest import PROGRAM
from tests.serving import serving
from tests.test_hostile_files import state_dicts
from tests.test_torch_file import ARCHIVES, BY_HAND
from tests.videos import repeated

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
MOST = 800_000_000  # bytes on disk
CLIP = ROOT / "src" / "ig65m" / "demo" / "clip.mp4"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


@dataclass
class Installed:
    """An environment with ig65m in it."""

    folder: Path
    wheel: Path

    @property
    def program(self) -> Path:
        return self.folder / "bin" / "ig65m"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*"))

    def install(self, extra: str = "") -> None:
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        self.run(self.folder / "bin" / "python", "-m", "pip", "install", "--quiet", *constraints, f"{self.wheel}{extra}")

    def run(self, *command: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        words = [str(part) for part in command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=cwd or self.folder)
        assert done.returncode == code, done.stderr
        return done

    def python(self, code: str, *args: object) -> str:
        return self.run(self.folder / "bin" / "python", "-c", code, *args).stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    installed = Installed(folder / "env", wheel)
    installed.install()
    return installed


def here(*args):
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, check=True).stdout


def test_it_is_small(small):
    print(f"{small.size / 1e6:.0f} MB")
    assert small.size < MOST
    absent = small.python("import importlib.util as u; print([n for n in ('torch', 'onnxruntime', 'h5py') if u.find_spec(n)])")
    assert absent.strip() == "[]"


def test_labels_are_the_same(small, bikes):
    args = ("classify", CLIP, bikes, "--model", EMBEDDED, "--json")
    assert json.loads(small.run(small.program, *args).stdout) == json.loads(here(*args))


@pytest.mark.parametrize("form", ["pth", "safetensors", "pkl"])
def test_features_are_the_same_from_every_kind_of_file(form, small, tiny, tmp_path):
    weights, model = load_weights(tiny), tmp_path / f"tiny.{form}"
    if form == "pkl":
        shutil.copy(tiny, model)
    else:
        here("convert", tiny, model, "--frames", 8)
    args = ("--model", model, "--frames", 8, "--logits")
    small.run(small.program, "extract", CLIP, *args, "--output", tmp_path / "there.npz")
    here("extract", CLIP, *args, "--output", tmp_path / "here.npz")
    ours, theirs = (ig65m.load_features(tmp_path / f"{name}.npz") for name in ("here", "there"))
    np.testing.assert_array_equal(ours.array, theirs.array)
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    assert (ours.model, ours.spans) == (theirs.model, theirs.spans)
    assert ours.model["sha256"] == weights.sha256


def test_conversions_are_the_same(small, tiny, tmp_path):
    here("convert", tiny, tmp_path / "here" / "m")
    formats = ("--format", "safetensors", "--format", "onnx")
    done = small.run(small.program, "convert", tiny, tmp_path / "there" / "m", *formats)
    assert "largest difference" in done.stdout
    ours, theirs = (load_weights(tmp_path / name / "m.safetensors") for name in ("here", "there"))
    assert ours.sha256 == theirs.sha256
    assert (tmp_path / "here" / "m.onnx").read_bytes() == (tmp_path / "there" / "m.onnx").read_bytes()
    assert not (tmp_path / "there" / "m.pth").exists()


def test_a_folder_is_extracted_and_resumed(small, bikes, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(CLIP, videos / "a.mp4")
    args = ("extract", videos, "--output", tmp_path / "features", "--model", EMBEDDED)
    assert "1 ok" in small.run(small.program, *args).stdout
    shutil.copy(bikes, videos / "b.mp4")
    assert "2 videos" in small.run(small.program, *args).stdout
    journal = (tmp_path / "features" / "journal.jsonl").read_text()
    small.run(small.program, *args)
    assert (tmp_path / "features" / "journal.jsonl").read_text() == journal
    assert "2 of 2 results are sound" in small.run(small.program, "features", "verify", tmp_path / "features").stdout


def test_an_evaluation_needs_no_extra(small, bikes, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label\n{CLIP},static\n{bikes},pan_left\n")
    args = ("evaluate", EMBEDDED, tmp_path / "list.csv", "--output", tmp_path / "evaluation", "--json")
    assert json.loads(small.run(small.program, *args).stdout)["videos"] == 2
    assert b"data:image/jpeg" in (tmp_path / "evaluation" / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("args", "extra"),
    [
        (("classify", CLIP, "--model", EMBEDDED, "--engine", "pytorch"), "torch"),
        (("classify", CLIP, "--model", EMBEDDED, "--device", "cuda"), "torch"),
        (("classify", CLIP, "--model", EMBEDDED, "--engine", "onnxruntime"), "onnxruntime"),
        (("convert", "model.pkl", "out"), "torch"),
        (("quantize", EMBEDDED, CLIP, "--output", "out.safetensors"), "quantize"),
        (("explain", "semcode", CLIP, "out.png"), "explain"),
        (("extract", CLIP, "--model", EMBEDDED, "--output", "out", "--ray"), "ray"),
        (("index", "build", "features", "out"), "search"),
        (("features", "export", "features", "out.h5", "--to", "h5"), "h5"),
        (("serve", "index"), "serve"),
        (("learn", "index", "--output", "out.safetensors"), "learn"),
    ],
)
def test_what_an_absent_extra_is_for_is_said_in_a_line(args, extra, small, tiny, tmp_path):
    shutil.copy(tiny, tmp_path / "model.pkl")
    if "features" in args:
        small.run(small.program, "extract", CLIP, "--model", EMBEDDED, "--output", tmp_path / "features")
    (tmp_path / "index").mkdir()
    before = sorted(tmp_path.iterdir())
    done = small.run(small.program, *args, code=2, cwd=tmp_path)
    assert f"which is not installed: pip install 'ig65m[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_only_engines_that_are_installed_are_measured(small):
    done = small.run(small.program, "bench", "--model", EMBEDDED, "--json")
    assert {json.loads(line)["engine"].split()[0] for line in done.stdout.splitlines()} == {"openvino"}
    assert "onnxruntime is not installed and not measured" in done.stderr


def test_python_says_so_too(small):
    code = "import ig65m\ntry:\n    ig65m.load_model('r2plus1d_10_camera_motion')\nexcept ig65m.UsageError as e:\n    print(e)"
    assert small.python(code).strip() == "ig65m.load_model needs torch, which is not installed: pip install 'ig65m[torch]'"


SHOW = """
import sys
import ig65m
model = "r2plus1d_10_camera_motion"
for result in (ig65m.classify(sys.argv[1], model=model), ig65m.extract(sys.argv[1], model=model)):
    print(result._repr_html_())
    try:
        result.to_pandas()
    except ig65m.UsageError as error:
        print(error)
"""


def test_notebooks_show_the_same(small):
    prediction, said, features, also_said = small.python(SHOW, CLIP).splitlines()
    assert prediction == ig65m.classify(CLIP, model=EMBEDDED)._repr_html_()
    assert features == ig65m.extract(CLIP, model=EMBEDDED)._repr_html_()
    for line, name in ((said, "Prediction"), (also_said, "Features")):
        assert line == f"{name}.to_pandas needs pandas, which is not installed: pip install 'ig65m[pandas]'"


READ = """
import json, sys
from pathlib import Path
from ig65m.errors import CheckpointError
from ig65m.zoo.files import read_pth
said = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_pth(path)
    except CheckpointError as error:
        said[path.name] = str(error)
print(json.dumps(said))
"""


def test_hostile_files_are_refused_in_the_same_words(small, tiny, tmp_path):
    state = {key: torch.from_numpy(array) for key, array in load_weights(tiny).arrays.items()}
    files = state_dicts(state) | {name: data for name, (data, _) in BY_HAND.items()}
    files |= {name: make() for name, (make, _) in ARCHIVES.items()}
    for number, data in enumerate(files.values()):
        (tmp_path / f"{number:02}.pth").write_bytes(data)
    there = json.loads(small.python(READ, tmp_path))
    assert len(files) > 60
    ours = {}
    for path in sorted(tmp_path.iterdir()):
        try:
            read_pth(path)
        except CheckpointError as error:
            ours[path.name] = str(error)
    assert there == ours
    assert len(there) >= len(files) - 3  # a sparse, an empty or a narrow one is refused by what reads its shapes


@pytest.fixture(scope="module")
def footage(bigbuckbunny, bikes, tmp_path_factory):
    """A folder for each of two classes, with parts of a video."""
    folder = tmp_path_factory.mktemp("footage")
    for name, video in (("rabbit", bigbuckbunny), ("street", bikes)):
        (folder / name).mkdir()
        shutil.copy(video, folder / name / "once.mp4")
        repeated(video, folder / name / "twice.mp4", 2)  # another file, since copies count as one video
    return folder


def test_a_learned_model_needs_no_extra(small, footage, tmp_path):
    here("learn", footage, "--model", EMBEDDED, "--output", tmp_path / "mine.safetensors")
    args = ("classify", CLIP, footage, "--model", tmp_path / "mine.safetensors", "--threshold", "0.6", "--json")
    there = json.loads(small.run(small.program, *args).stdout)
    assert there == json.loads(here(*args))
    assert there["videos"][1]["labels"][0]["label"] == "rabbit"


def test_with_an_extra_it_learns_without_pytorch(small, footage, tmp_path):
    before = small.size
    small.install("[learn]")
    print(f"the extra learn: {(small.size - before) / 1e6:.0f} MB")
    args = ("learn", footage, "--model", EMBEDDED, "--json", "--output")
    done = json.loads(small.run(small.program, *args, tmp_path / "there.safetensors").stdout)
    assert done["held_out"]["top1"] == 1
    here(*args, tmp_path / "here.safetensors")
    ours, theirs = (load_weights(tmp_path / f"{name}.safetensors") for name in ("here", "there"))
    np.testing.assert_allclose(ours.arrays["fc.weight"], theirs.arrays["fc.weight"], atol=1e-5)
    done = small.run(small.program, *args, tmp_path / "tuned.safetensors", "--finetune", code=2)
    assert "--finetune needs torch, which is not installed: pip install 'ig65m[train]'" in done.stderr
    assert small.python("import importlib.util as u; print(u.find_spec('torch'))").strip() == "None"


def test_with_an_extra_it_searches_and_serves(small, bikes, tmp_path):
    small.install("[serve]")
    print(f"with the extra serve: {small.size / 1e6:.0f} MB")
    videos = tmp_path / "videos"
    videos.mkdir()
    for video in (CLIP, bikes):
        shutil.copy(video, videos)
    small.run(small.program, "extract", videos, "--output", tmp_path / "f", "--model", EMBEDDED, "--top-k", 3)
    small.run(small.program, "index", "build", tmp_path / "f", tmp_path / "i")
    found = json.loads(small.run(small.program, "search", tmp_path / "i", f"{videos / CLIP.name}@1.0s", "--json").stdout)
    assert found
    with serving(tmp_path / "i", tmp_path / "served", program=small.program) as served, served.client() as client:
        assert "text/html" in client.get("/").headers["content-type"]
        health = client.get("/api/health").json()
        assert health["requests"]["running"] == 0
        answer = client.post("/api/classify", content=CLIP.read_bytes(), headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 200, answer.text
    assert small.python("import importlib.util as u; print(u.find_spec('torch'))").strip() == "None"

"""kill -9 before every step and at any moment: what stands under a final name is whole, and belongs together.

The killing is done by this file run as a program, which imports everything once and forks a process for each kill.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ig65m.cli
from ig65m.store.features import Features, save
from ig65m.store.folder import Store, result_name, write_errors
from ig65m.types import ClipSpan, Segment
from ig65m.zoo.load import load_weights

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "src" / "ig65m" / "demo" / "clip.mp4"
TINY = ROOT / "tests" / "golden" / "tiny_r2plus1d_10.pkl"
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # Python's audit events of work on files


def arrays(mapping):
    return {key: (array.shape, array.tobytes()) for key, array in mapping.items()}


def tensors(path):
    from ig65m.zoo.load import load_model

    model = load_model(path)
    return model.card, arrays({key: tensor.numpy() for key, tensor in model.state_dict().items()})


def graph(path):
    import onnx

    onnx.checker.check_model(path, full_check=True)
    return onnx.load(path).SerializeToString()


READERS: dict[str, Callable] = {
    ".json": lambda path: json.loads(path.read_text("utf-8")),
    ".npy": lambda path: arrays({"": np.load(path)}),
    ".npz": lambda path: arrays(np.load(path)),
    ".parquet": lambda path: (pq.read_table(path).to_pydict(), pq.read_schema(path).metadata),
    ".safetensors": tensors,
    ".pth": tensors,
    ".onnx": graph,
}


def read(folder):
    """What the files under final names hold; reading them fails where one is not whole."""
    return {
        str(path.relative_to(folder)): READERS[path.suffix](path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".ig65m-" not in str(path.relative_to(folder))
    }


def ages(shot, old, new):
    """old or new for each file of a shot, which must be one of them."""
    found = read(shot)
    for name, content in found.items():
        assert content in (old.get(name), new.get(name)), f"{shot}: {name} is neither the old nor the new one"
    return {name: "new" if content == new.get(name) else "old" for name, content in found.items()}


def features(seed):
    rows = np.random.default_rng(seed).standard_normal((40, 64)).astype(np.float32)
    spans = tuple(ClipSpan(n / 2, n / 2 + 0.5, 8 * n, 8 * n + 7) for n in range(40))
    return Features(f"{seed}.mp4", "ok", rows, spans, {"name": "m"}, rows[:, :9])


def killed(tmp_path, how, *args, old=None):
    """The folder's states after as many kills of the work in it, and at the end of an undisturbed run."""
    shots = tmp_path / "shots"
    command = [
        sys.executable,
        "-m",
        "tests.test_kill",
        how,
        str(tmp_path / "work"),
        str(shots),
        str(old or ""),
        *map(str, args),
    ]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    *states, end = sorted(shots.iterdir())
    return states, end


@pytest.mark.parametrize("over", [False, True], ids=["fresh", "over older files"])
@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
def test_features_killed_before_every_step(tmp_path, suffix, over):
    old = tmp_path / "old"
    old.mkdir()
    if over:
        save(features(1), old / f"a.{suffix}")
    states, end = killed(tmp_path, "save", suffix, old=old)
    assert len(states) >= (15 if suffix == "npy" else 5)
    before, new = read(old), read(end)
    assert new[f"a.{suffix}"] != before.get(f"a.{suffix}")
    for state in states:
        found = ages(state, before, new)
        if f"a.{suffix}" in found:  # then all that is described beside it is of the same run
            assert found == dict.fromkeys(new, found[f"a.{suffix}"])


def test_conversion_over_older_files_killed_before_every_step(tiny_model, tmp_path):
    import onnx
    import torch

    old = tmp_path / "old"
    shutil.copytree(tiny_model.parent, old)
    model = ig65m.load_model(tiny_model)
    model.fc.bias.data += 1
    torch.save(model.state_dict(), tmp_path / "other.pth")
    other = onnx.load(tiny_model.with_suffix(".onnx"))
    other.doc_string = "another"
    onnx.save(other, tmp_path / "other.onnx")
    states, end = killed(tmp_path, "convert-end", tmp_path / "other.pth", tmp_path / "other.onnx", old=old)
    assert len(states) >= 15
    before, new = read(old), read(end)
    assert all(before[name] != new[name] for name in ("tiny.onnx", "tiny.pth", "tiny.safetensors"))
    for state in states:
        assert len(set(ages(state, before, new).values())) <= 1, f"{state}: old and new side by side"


@pytest.mark.parametrize("file_format", ["npy", "npz", "parquet"])
def test_extract_killed_at_any_moment(tmp_path, file_format):
    old = tmp_path / "old"
    old.mkdir()
    save(features(1), old / f"a.{file_format}")
    options = ["--end", 0.6, "--in-process", "--logits", "--overwrite"]
    command = ["extract", DEMO, "-o", tmp_path / "work" / f"a.{file_format}", "--model", "r2plus1d_10_camera_motion", *options]
    states, end = killed(tmp_path, "any", 1, *command, old=old)
    before, new = read(old), read(end)
    assert f"a.{file_format}" in new
    for state in states:
        ages(state, before, new)


def test_a_folder_of_features_killed_before_every_step(tmp_path):
    """In each state that a kill leaves, opening the folder and doing the rest gives what an undisturbed run gives."""
    states, end = killed(tmp_path, "store")
    assert len(states) >= 20
    wanted = {str(path.relative_to(end)): path.read_bytes() for path in end.rglob("*") if path.is_file()}
    for state in states:
        in_store(state)()
        found = {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}
        assert found == wanted


def test_convert_killed_at_any_moment(tiny_model, tmp_path):
    new = read(tiny_model.parent)
    command = [Path(sys.executable).parent / "ig65m", "convert", TINY, tmp_path / "deeper" / "tiny", "--frames", "8"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not any(tmp_path.glob("**/*.pth")):
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(random.uniform(0, 2))
    process.kill()
    process.wait()
    ages(tmp_path / "deeper", {}, new)


# What follows runs in the program that kills.


def reset(folder, old):
    shutil.rmtree(folder, ignore_errors=True)
    if old.name:
        shutil.copytree(old, folder)
    else:
        folder.mkdir()


def forked(work):
    """Start a process that does `work` and ends with 0; its id."""
    number = os.fork()
    if number:
        return number
    try:
        work()
        os._exit(0)
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    finally:
        os._exit(1)


def kill_before_every_step(work, folder, shots, old):
    def until(last):
        steps = itertools.count(1)

        def step(event, args):
            names = [os.fsdecode(arg) for arg in args if isinstance(arg, str | bytes | os.PathLike)]
            if event in STEPS and any(str(folder) in name for name in names) and next(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(step)
        work()

    for last in itertools.count(1):
        reset(folder, old)
        _, status = os.waitpid(forked(lambda last=last: until(last)), 0)
        shutil.copytree(folder, shots / f"{last:03}")
        if status == 0:
            return
        assert os.WIFSIGNALED(status), f"step {last}: status {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL


def entries(folder):
    """Names and what they stand for: a temporary file may come and go between two looks, but not what took its place."""
    with os.scandir(folder) as there:
        return {(entry.name, entry.inode()) for entry in there}


def kill_at_any_moment(work, folder, shots, old, kills):
    """At moments from the first file that appears or changes to the end of an undisturbed run, which comes last."""
    chance = random.Random(0)
    length = None
    for kill in [kills, *range(kills)]:  # the undisturbed one is run first, to know how long it takes
        reset(folder, old)
        before = entries(folder)
        process = forked(work)
        while entries(folder) == before:
            time.sleep(0.0005)
        first = time.monotonic()
        if length is not None:
            time.sleep(chance.uniform(0, length))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if length is None:
            assert status == 0, f"undisturbed: status {status}"
            length = time.monotonic() - first
        shutil.copytree(folder, shots / f"{kill:03}")


def convert_end(folder, checkpoint, onnx_file):
    """The conversion from its first file on; the model is loaded, the graph ready, and its proof is not tested here."""
    import ig65m.convert

    weights = load_weights(checkpoint)
    ig65m.convert.load_weights = lambda *_, **__: weights
    ig65m.convert.export_onnx = lambda _, path: shutil.copy(onnx_file, path)
    ig65m.convert._prove = lambda *_: 0.0
    return lambda: ig65m.convert.convert(checkpoint, folder / "tiny", overwrite=True)


def in_store(folder):
    """Two videos' features, of which the second failed; what is there already is not done again."""
    videos = {Segment("/v/a.mp4"): features(2), Segment("/v/b.mp4"): Features("/v/b.mp4", "failed", np.zeros((0, 64)), ())}

    def work():
        with Store(folder, {"name": "m", "features": "float32"}) as store:
            for video, each in videos.items():
                name = result_name(video)
                assert store.claim(name)
                if not (store.latest(name, "c") or store.adopt(name, video, "c")):
                    store.commit(video, "c", each)
        write_errors(folder)

    return work


def run_program(*args):
    sys.argv = ["ig65m", *args]
    ig65m.cli.main()


if __name__ == "__main__":
    how, *paths = sys.argv[1:5]
    folder, shots, old = map(Path, paths)
    rest = sys.argv[5:]
    if how == "save":
        kill_before_every_step(lambda: save(features(2), folder / f"a.{rest[0]}"), folder, shots, old)
    elif how == "store":
        kill_before_every_step(in_store(folder), folder, shots, old)
    elif how == "convert-end":
        kill_before_every_step(convert_end(folder, *map(Path, rest)), folder, shots, old)
    else:
        import ig65m.cli.commands
        import ig65m.tasks.extractor  # before the fork, not after each

        kill_at_any_moment(lambda: run_program(*rest[1:]), folder, shots, old, int(rest[0]))

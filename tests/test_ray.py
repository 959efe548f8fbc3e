"""Extraction on a real Ray cluster of two nodes, of which a worker and then a node are killed."""

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from ig65m.collection.ray_cluster import _anywhere
from ig65m.store.folder import read_journal
from ig65m.zoo.cards import EMBEDDED
from tests.conftest import PROGRAM
from tests.test_collection import same
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Two nodes, after the tests without any; the test that kills one comes last."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def actors():
    """The processes that run networks, by when they started."""
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        if any("MapWorker" in part for part in process.info["cmdline"] or []):
            found.append(process)
    return sorted(found, key=lambda process: process.info["create_time"])


def done(folder):
    return len(read_journal(folder)) if (folder / "journal.jsonl").exists() else 0


def start(cluster, inputs, folder, model):
    command = [PROGRAM, "extract", inputs, "--output", folder, "--model", model, "--ray", cluster.address, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "auto"])
def test_no_cluster_there(videos, tiny_model, tmp_path, address):
    command = [PROGRAM, "extract", videos, "--output", tmp_path / "f", "--model", tiny_model, "--ray", address]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert f"no Ray cluster at '{address}'" in process.stderr
    assert not (tmp_path / "f").exists()


def test_broken_videos_are_rows(cluster, videos, tiny_model, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "list.txt").write_text(f"{videos / 'v01.mp4'}\n{tmp_path / 'bad.mp4'}\n{tmp_path / 'none.mp4'}\n")
    process = start(cluster, tmp_path / "list.txt", tmp_path / "features", tiny_model)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 3, err
    assert {Path(row["path"]).name: row["status"] for row in json.loads(out)["videos"]} == {
        "v01.mp4": "ok",
        "bad.mp4": "failed",
        "none.mp4": "failed",
    }
    assert len((tmp_path / "features" / "errors.jsonl").read_text().splitlines()) == 2


def test_a_polite_stop_says_so(cluster, undisturbed, videos, tiny_model, tmp_path):
    folder = tmp_path / "features"
    process = start(cluster, videos, folder, tiny_model)
    wait_for(lambda: done(folder) >= 2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM; finished files stay" in err
    assert not list(folder.rglob("*.part"))
    again = [PROGRAM, "extract", videos, "--output", folder, "--model", tiny_model]
    assert subprocess.run(again, capture_output=True, check=False).returncode == 0
    same(folder, undisturbed)


def test_without_an_address_it_runs_on_this_machine_alone(cluster, videos, tiny_model, tmp_path):
    """Whatever cluster is here already."""
    command = [PROGRAM, "extract", videos, "--output", tmp_path / "f", "--model", tiny_model, "--ray"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    mine = psutil.Process(process.pid)
    wait_for(lambda: [child for child in mine.children(recursive=True) if child in actors()] or process.poll() is not None)
    assert process.poll() is None, "no actor of its own ran"
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "deprecated" not in err


def test_an_evaluation_on_ray_is_that_on_one_machine(cluster, videos, tmp_path):
    rows = [f"{path},{(number % 2 and 'static') or 'pan_left'}" for number, path in enumerate(sorted(videos.rglob("*.mp4")))]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    for folder, where in (("here", []), ("there", ["--ray", cluster.address])):
        command = [PROGRAM, "evaluate", EMBEDDED, tmp_path / "list.csv", "--output", tmp_path / folder, "--clips", "3", *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
    same(tmp_path / "there" / "scores", tmp_path / "here" / "scores")
    for name in ("metrics.json", "predictions.parquet", "report.html"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_without_a_model_workers_load_the_default_one():
    assert _anywhere({"model": None, "device": "cpu"}) == {"model": None, "device": "cpu"}
    assert _anywhere({"model": EMBEDDED}) == {"model": EMBEDDED}


def test_a_killed_worker_and_a_killed_node_lose_nothing(cluster, undisturbed, videos, tiny_model, tmp_path):
    folder = tmp_path / "features"
    process = start(cluster, videos, folder, tiny_model)
    wait_for(lambda: done(folder) >= 3)
    killed = actors()[0]
    killed.send_signal(signal.SIGKILL)
    now = done(folder)
    wait_for(lambda: done(folder) >= now + 3 or process.poll() is not None)
    cluster.remove_node(cluster.second, allow_graceful=False)
    assert done(folder) < 30, "the node was to be killed in the middle"
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    rows = json.loads(out)["videos"]
    assert len(rows) == 30
    assert all(row["status"] == "ok" for row in rows)
    same(folder, undisturbed)

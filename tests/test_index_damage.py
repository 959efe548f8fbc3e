"""An index that is damaged, killed, shared, in the wrong place: it is made good or the error says what to do."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from ig65m.errors import UsageError
from ig65m.search import vectors
from ig65m.search.index import Index
from tests.indexes import drawn, holds, name, write

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def damage_bytes(path):
    with path.open("r+b") as file:
        file.seek(vectors.HEADER + 999)
        file.write(b"\xff\x00\xff")


DAMAGE = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, vectors.HEADER + 100),
    "a header of nonsense": lambda path: path.write_bytes(b"[3]" + path.read_bytes()[3:]),
    "flipped bytes": damage_bytes,
    "another index's": None,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_matrix_is_made_again(how, tmp_path):
    content = drawn(5, 20)
    Index.build(write(tmp_path / "f", content), tmp_path / "i")
    path = tmp_path / "i" / vectors.FILE
    sound = path.read_bytes()
    if how == "another index's":
        Index.build(write(tmp_path / "g", drawn(5, 20, seed=3) | {"/x.mp4": content["/videos/000.mp4"]}), tmp_path / "j")
        shutil.copy(tmp_path / "j" / vectors.FILE, path)
    else:
        DAMAGE[how](path)
    holds(Index.open(tmp_path / "i"), content)
    assert path.read_bytes() == sound


def test_the_matrix_grows_in_place(tmp_path):
    content = drawn(5, 20)
    features = write(tmp_path / "f", content)
    index, _ = Index.build(features, tmp_path / "i")
    path = tmp_path / "i" / vectors.FILE
    before, number = path.read_bytes(), path.stat().st_ino
    more = {f"/more{path}": array for path, array in drawn(2, 7, seed=1).items()}
    index.add(write(features, more))
    assert path.stat().st_ino == number
    assert path.read_bytes()[vectors.HEADER : len(before)] == before[vectors.HEADER :]
    holds(index, content | more)
    with path.open("ab") as file:  # by somebody who was killed then
        file.write(b"half a vector")
    holds(Index.open(tmp_path / "i"), content | more)


def test_where_nothing_can_be_written_it_is_searched(tmp_path, monkeypatch):
    content = drawn(5, 20)
    Index.build(write(tmp_path / "f", content), tmp_path / "i")
    (tmp_path / "i" / vectors.FILE).unlink()

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(vectors, "locked", refused)
    holds(Index.open(tmp_path / "i"), content)
    assert not (tmp_path / "i" / vectors.FILE).exists()


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("index.json", None, "is not an index"),
        ("index.json", "{", "is damaged"),
        ("index.json", "[]", "unknown format"),
        ("index.json", '{"format": 2, "settings": {}, "exact_up_to": 1}', "unknown format"),
        ("index.json", '{"format": 1, "settings": {}, "exact_up_to": "many"}', "unknown format"),
        ("index.json", b"\xff\xfe", "is damaged"),
    ],
)
def test_an_index_that_is_none(file, text, why, tmp_path, run):
    Index.build(write(tmp_path / "f", drawn(2, 3)), tmp_path / "i")
    path = tmp_path / "i" / file
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for args in (
        ["search", tmp_path / "i", "000"],
        ["index", "info", tmp_path / "i"],
        ["index", "add", tmp_path / "f", tmp_path / "i"],
    ):
        code, out, err = run(*args)
        assert (code, out) == (2, "")
        assert why in err


def test_places_that_are_wrong(tmp_path, run):
    features = write(tmp_path / "f", drawn(2, 3))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    (tmp_path / "file").touch()
    wrong = {
        ("index", "build", tmp_path / "no", tmp_path / "i"): "is not a folder of features",
        ("index", "build", tmp_path / "full", tmp_path / "i"): "is not a folder of features",
        ("index", "build", tmp_path / "file", tmp_path / "i"): "",
        ("index", "build", features, tmp_path / "full"): "is not empty",
        ("index", "build", features, features): "is not empty",
        ("index", "build", features, tmp_path / "file"): "is not a folder",
        ("index", "build", features, tmp_path / "file" / "i"): "is not a folder",
        ("index", "build", features, tmp_path / "i", "--exact-up-to", -1): "exact_up_to",
        ("index", "add", features, tmp_path / "full"): "is not an index",
        ("index", "info", features): "is not an index",
        ("index", "info", tmp_path / "file"): "is not an index",
        ("search", tmp_path / "no", "a"): "is not an index",
    }
    for args, why in wrong.items():
        code, out, err = run(*args)
        assert (code, out) == (2, ""), args
        assert why in err, args
    assert not (tmp_path / "i").exists()
    assert run("index", "build", features, tmp_path / "i")[0] == 0
    code, _, err = run("index", "build", features, tmp_path / "i")
    assert code == 2
    assert "`ig65m index add`" in err


def test_a_foreign_table_is_refused(tmp_path):
    Index.build(write(tmp_path / "f", drawn(2, 3)), tmp_path / "i")
    shutil.rmtree(tmp_path / "i" / "clips.lance")
    lancedb.connect(tmp_path / "i").create_table("clips", [{"a": 1}])
    with pytest.raises(UsageError, match="unexpected table"):
        Index.open(tmp_path / "i")


WORK = """
import sys
from pathlib import Path
import ig65m.search.ingest as ingest
from ig65m.search.index import Index
ingest.PART = 2000
features, folder = map(Path, sys.argv[1:3])
print("ready", flush=True)
sys.stdin.readline()
if not (folder / "index.json").exists():
    Index.build(features, folder, exact_up_to=int(sys.argv[3]))
index = Index.open(folder)
index.remove(list(index.sources())[: int(sys.argv[4])])
index.add(features)
print("done", flush=True)
"""


def at_work(*args):
    """A process that is about to change an index; it begins when it is told to."""
    command = [sys.executable, "-c", WORK, *map(str, args)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process):
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_killed_at_any_moment(exact_up_to, tmp_path):
    content, chance = drawn(30, 40), random.Random(exact_up_to)
    features, folder = write(tmp_path / "f", content), tmp_path / "i"
    for kill in range(2):
        with at_work(features, folder, exact_up_to, 4) as process:
            begin(process)
            if kill == 0:
                while not folder.exists():
                    time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.5))
            process.kill()
        if (folder / "index.json").exists():
            rows = lancedb.connect(folder).open_table("clips").count_rows() if (folder / "clips.lance").exists() else 0
            assert len(Index.open(folder)) == rows
            assert rows % 40 == 0
    if not (folder / "index.json").exists():
        Index.build(features, folder, exact_up_to=exact_up_to)
    index = Index.open(folder)
    index.add(features)
    holds(index, content)


def test_two_at_once(tmp_path):
    content = drawn(30, 40)
    features, folder = write(tmp_path / "f", content), tmp_path / "i"
    Index.build(write(tmp_path / "none", {}), folder)
    both = [at_work(features, folder, 0, take) for take in (0, 3)]
    for process in both:
        begin(process)
    for process in both:
        out, err = process.communicate()
        assert out == "done\n", err
    holds(Index.open(folder), content)


def test_lancedb_reports_to_nobody(tmp_path):
    """Neither by Python nor below it, and nothing is written but in the index."""
    features = write(tmp_path / "f", drawn(11, 100))
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import sys
from pathlib import Path
sys.addaudithook(lambda event, args: print(event) if event in ("os.fork", "socket.connect", "socket.getaddrinfo") else None)
from ig65m.search.index import Index
index, _ = Index.build(Path({str(features)!r}), Path({str(tmp_path / "i")!r}), exact_up_to=100)
index.search(index.sample(1), 3)
tables = [Path(f"/proc/self/net/{{name}}").read_text().splitlines()[1:] for name in ("tcp", "tcp6", "udp", "udp6")]
mine = {{link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}}
print(*[line for table in tables for line in table if f"socket:[{{line.split()[9]}}]" in mine])
"""
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert done.stderr == ""
    assert list(home.iterdir()) == []


def test_without_lancedb_it_says_what_to_install(tmp_path, run, monkeypatch):
    features = write(tmp_path / "f", drawn(2, 3))
    Index.build(features, tmp_path / "i")
    monkeypatch.setitem(sys.modules, "lancedb", None)
    for args in (["index", "build", features, tmp_path / "j"], ["search", tmp_path / "i", "000"]):
        code, _, err = run(*args)
        assert code == 2
        assert "pip install 'ig65m[search]'" in err
    assert not (tmp_path / "j").exists()


HOSTILE = {
    "no video": {"video": None},
    "a video in another folder": {"video": "a/b"},
    "a video above": {"video": ".."},
    "a video without a name": {"video": ""},
    "no path": {"path": None},
    "a path that is not in hexadecimal": {"path": "\0ff\0"},
    "half a byte of a path": {"path": "\0f"},
    "a path that is no text": {"path": "\0ff"},
    "a zero in a path": {"path": "/videos/a\0b"},
    "an endless path": {"path": "/" + "x" * 100_000},
    "no result": {"result": None},
    "a result that is no digest": {"result": "' OR 1=1 --"},
    "no status": {"status": None},
    "an unknown status": {"status": "fine"},
    "no clip": {"clip": None},
    "a clip beyond all": {"clip": 1 << 62},
    "a negative clip": {"clip": -1},
    "no start": {"start": None},
    "a start that is no number": {"start": float("nan")},
    "an endless start": {"start": float("-inf")},
    "an endless end": {"end": float("inf")},
    "an end before the start": {"start": 5.0, "end": 1.0},
    "frames beyond all": {"last_frame": (1 << 63) - 1},
    "a negative frame": {"first_frame": -5},
    "a negative shot": {"shot": -1},
    "a shot beyond all": {"shot": 1 << 62},
    "a label without a name": {"labels": [{"label": None, "score": 0.5}]},
    "a label without a score": {"labels": [{"label": "pan", "score": None}]},
    "a label of no number": {"labels": [{"label": "pan", "score": float("nan")}]},
    "a label that is more than sure": {"labels": [{"label": "pan", "score": 7.0}]},
    "no label where one should be": {"labels": [None]},
}


def overwritten(folder, change, **how):
    """The table of an index with the rows that `change` makes of its rows, as somebody else might write them."""
    connection = lancedb.connect(folder)
    table = connection.open_table("clips").to_arrow()
    rows = table.to_pylist()
    change(rows)
    connection.create_table("clips", pa.Table.from_pylist(rows, schema=table.schema), mode="overwrite", **how)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("place", [0, 7])
def test_a_row_that_cannot_be_costs_itself_only(kind, place, tmp_path):
    content = drawn(3, 5)
    labels = {path: (array, [[("pan", 0.5), ("tilt", 0.25)]] * 5) for path, array in content.items()}
    Index.build(write(tmp_path / "features", labels), tmp_path / "index")
    overwritten(tmp_path / "index", lambda rows: rows[place].update(HOSTILE[kind]))
    index = Index.open(tmp_path / "index")
    assert index.damaged == 1
    assert sorted(index.sources()) == sorted(map(name, content))
    assert sorted(video.clips for video in index.videos()) == [4, 5, 5]
    assert index.labels() == {"pan": 14, "tilt": 14}
    whole = np.concatenate(list(content.values()))
    for number, vector in enumerate(whole):
        hits = index.search(vector[None], 3)
        assert len(hits) == 3
        best = hits[0]
        same = (best.path, best.start) == (list(content)[number // 5], 0.5 * (number % 5))
        assert same == (number != place)
    assert len(index.search(whole[:1], 100)) == 14
    assert len(index.search_label("pan", 100)) == 14
    assert sum(len(index.clips(name(path)).spans) for path in content) == 14


@pytest.mark.parametrize("vector", [[float("nan")] * 16, [float("inf")] + [0.0] * 15, [-float("inf")] * 16, [1e38] * 16])
def test_vectors_that_cannot_be_are_like_nothing(vector, tmp_path):
    content = drawn(3, 5)
    Index.build(write(tmp_path / "features", content), tmp_path / "index")
    overwritten(tmp_path / "index", lambda rows: rows[3].update(vector=vector), on_bad_vectors="null")
    index = Index.open(tmp_path / "index")
    for path, array in content.items():
        for number, each in enumerate(array):
            hit = index.search(each[None], 1)[0]
            found = (hit.path, hit.start) == (path, 0.5 * number)
            assert found or (path, number) == (next(iter(content)), 3)
            assert -1 <= hit.score <= 1


def test_a_table_of_other_types_is_refused(tmp_path):
    Index.build(write(tmp_path / "features", drawn(2, 3)), tmp_path / "index")
    connection = lancedb.connect(tmp_path / "index")
    table = connection.open_table("clips").to_arrow()
    clip = table.column_names.index("clip")
    connection.create_table("clips", table.set_column(clip, "clip", table["clip"].cast(pa.string())), mode="overwrite")
    with pytest.raises(UsageError, match="has an unexpected table; expected clip: int64"):
        Index.open(tmp_path / "index")


def test_shots_of_another_type_are_refused(tmp_path):
    Index.build(write(tmp_path / "features", drawn(2, 3)), tmp_path / "index")
    connection = lancedb.connect(tmp_path / "index")
    table = connection.open_table("clips").to_arrow().drop_columns(["shot"])
    connection.create_table("clips", table.append_column("shot", pa.array(["first"] * 6)), mode="overwrite")
    with pytest.raises(UsageError, match="has an unexpected table; expected shot: int64"):
        Index.open(tmp_path / "index")

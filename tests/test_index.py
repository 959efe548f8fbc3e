"""What is in an index is what is in the folders of features, whatever happens to it: added again, changed, damaged, killed."""

import hashlib
import json
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
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ig65m.errors import UsageError
from ig65m.search import adding, matrix
from ig65m.search.hits import Where
from ig65m.search.index import Index
from ig65m.search.table import Table
from ig65m.store.folder import read_journal
from tests.indexes import SETTINGS, drawn, name, spans, write

ROOT = Path(__file__).parent.parent
COLUMNS = ["video", "path", "result", "status", "clip", "start", "end", "first_frame", "last_frame", "labels", "vector"]


def unit(array):
    exact = array.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def holds(index, content):
    """Every clip of these videos once, and nothing else: in the table as LanceDB and pandas read it, and in searches."""
    table = lancedb.connect(index.folder).open_table("clips").to_pandas()
    assert list(table.columns) == COLUMNS
    assert len(table) == len(index) == sum(map(len, content.values()))
    assert sorted(index.sources()) == sorted(map(name, content))
    for path, array in content.items():
        rows = table[table["video"] == name(path)].sort_values("clip")
        assert list(rows["clip"]) == list(range(len(array)))
        assert {*rows["path"]} == {path}
        np.testing.assert_allclose(np.stack(rows["vector"]), unit(array), atol=1e-6)
        clips = index.clips(name(path))
        np.testing.assert_array_equal(clips.vectors, np.stack(rows["vector"]))
        assert clips.spans == spans(len(array))
        hit = index.search(array[-1:], 1)[0]
        assert (hit.path, hit.start, hit.score) == (path, 0.5 * (len(array) - 1), pytest.approx(1))


def test_real_features_are_all_in_it(undisturbed, tmp_path, run):
    code, out, err = run("index", "build", undisturbed, tmp_path / "index", "--json")
    assert (code, err) == (0, "")
    entries = read_journal(undisturbed)
    record = json.loads(out)
    assert record["clips"] == record["done"]["clips"] == sum(entry.clips for entry in entries)
    assert sorted(record["done"]["added"]) == sorted(entry.name for entry in entries)
    table = lancedb.connect(tmp_path / "index").open_table("clips").to_arrow()
    for entry in entries:
        file = pq.read_table(undisturbed / "features" / f"{entry.name}.parquet")
        rows = table.filter(pc.equal(table["video"], entry.name))
        for column in ("start", "end", "first_frame", "last_frame"):
            assert rows[column].to_pylist() == file[column].to_pylist()
        assert set(rows["result"].to_pylist()) == {entry.sha256}
        np.testing.assert_allclose(np.stack(rows["vector"]), unit(np.stack(file["features"])), atol=1e-6)
    code, out, _ = run("index", "add", undisturbed, tmp_path / "index")
    assert code == 0
    assert "0 added, 0 replaced, 30 unchanged, 0 left out" in out
    code, out, _ = run("index", "info", tmp_path / "index", "--json")
    assert json.loads(out)["videos"] == 30
    code, out, _ = run("index", "info", tmp_path / "index")
    assert "exact search over" in out
    code, out, _ = run("index", "recall", tmp_path / "index", "--queries", 9)
    assert "recall@10: 1.0000" in out
    code, out, _ = run("index", "remove", tmp_path / "index", "v03.mp4", "v04", "--json")
    assert (code, len(json.loads(out)["removed"])) == (0, 2)
    code, _, err = run("index", "remove", tmp_path / "index", "v03.mp4")
    assert code == 2
    assert "has no video 'v03.mp4'; near it are" in err
    code, _, err = run("index", "remove", tmp_path / "index", "v00")
    assert code == 2
    assert "is 2 videos" in err


@pytest.mark.parametrize("part", [1, 1 << 20], ids=["a video at a time", "all at once"])
@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_added_changed_removed(part, exact_up_to, tmp_path, monkeypatch):
    monkeypatch.setattr(adding, "PART", part)
    content = drawn(12, 90)
    features = write(tmp_path / "f", dict(list(content.items())[:11]))
    index, added = Index.build(features, tmp_path / "i", exact_up_to=exact_up_to)
    assert (len(added.added), added.clips) == (11, 990)
    write(features, dict(list(content.items())[11:]))
    added = index.add(features)
    assert (len(added.added), len(added.unchanged), added.clips) == (1, 11, 90)
    assert index.kind == ("exact" if exact_up_to else "approximate")
    holds(index, content)
    changed = {"/videos/003.mp4": content["/videos/003.mp4"][:7] * -1, "/videos/011.mp4": content["/videos/011.mp4"] * -1}
    content |= changed
    write(features, changed)
    added = index.add(features)
    assert sorted(added.replaced) == sorted(map(name, changed))
    holds(index, content)
    holds(Index.open(tmp_path / "i"), content)
    assert index.remove([name("/videos/000.mp4"), name("/videos/006.mp4")]) == 180
    holds(index, {path: array for path, array in content.items() if path[8:11] not in ("000", "006")})
    assert len(index.add(features).added) == 2
    holds(index, content)
    with pytest.raises(UsageError, match="no video 'x'"):
        index.remove([name("/videos/000.mp4"), "x"])
    assert len(index) == 997


def test_folders_of_features_come_together(tmp_path):
    one, two = drawn(3, 5), {f"/more{path}": array for path, array in drawn(4, 6, seed=1).items()}
    index, _ = Index.build(write(tmp_path / "one", one), tmp_path / "i")
    index.add(
        write(tmp_path / "two", two, {**SETTINGS, "precision": "bf16", "sampling": {**SETTINGS["sampling"], "stride": 4}})
    )
    holds(index, one | two)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"sha256": "6" * 64}, "sha256 is 5+ there, 6+ here"),
        ({"sampling": {**SETTINGS["sampling"], "frames": 16}}, "frames is 8 there, 16 here"),
        ({"sampling": {**SETTINGS["sampling"], "fps": 15.0}}, "fps is None there, 15.0 here"),
        ({"pooling": {"spatial": "max", "temporal": "mean"}}, "pooling.spatial is mean there, max here"),
        ({"preprocessing": {**SETTINGS["preprocessing"], "resize": [9, 9]}}, r"preprocessing.resize is \[8, 8\] there"),
        ({"pooling": {"spatial": "none", "temporal": "mean"}}, "not pooled"),
    ],
)
def test_features_of_another_kind_are_refused(other, what, tmp_path):
    content = drawn(2, 3)
    index, _ = Index.build(write(tmp_path / "f", content), tmp_path / "i")
    features = write(tmp_path / "other", drawn(1, 3, seed=5), SETTINGS | other)
    with pytest.raises(UsageError, match=what):
        index.add(features)
    holds(index, content)


def test_what_cannot_be_taken_in_is_named(tmp_path, run):
    content = drawn(6, 4) | {"/videos/broken.mp4": None, "/videos/zero.mp4": np.zeros((2, 16), np.float32)}
    features = write(tmp_path / "f", content)
    (features / "features" / f"{name('/videos/001.mp4')}.parquet").unlink()
    damaged = features / "features" / f"{name('/videos/002.mp4')}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"123456789")
    code, out, err = run("index", "build", features, tmp_path / "i")
    assert code == 3
    assert "5 added, 0 replaced, 0 unchanged, 3 left out" in out
    assert "left out: /videos/broken.mp4: failed: is broken" in err
    assert "left out: /videos/001.mp4: " in err
    assert "is missing; extract /videos/001.mp4 again" in err
    assert "is not what was written" in err
    write(features, {"/videos/002.mp4": content["/videos/002.mp4"], "/videos/003.mp4": None})
    code, out, err = run("index", "add", features, tmp_path / "i")
    assert code == 3
    assert "1 added, 0 replaced, 4 unchanged, 3 left out" in out
    index = Index.open(tmp_path / "i")
    assert name("/videos/003.mp4") not in index.sources()  # it failed since: what was there before is no video any more
    assert index.search(content["/videos/000.mp4"][:1], 99)[-1].score < 0
    zeros = [hit for hit in index.search(content["/videos/000.mp4"][:1], 99) if hit.path == "/videos/zero.mp4"]
    assert [hit.score for hit in zeros] == [0, 0]
    with pytest.raises(UsageError, match="zeros"):
        index.search(index.clips(name("/videos/zero.mp4")).vectors, 3)


def test_numbers_that_are_none_are_left_out(tmp_path):
    content = drawn(2, 4)
    features = write(tmp_path / "f", content)
    file = features / "features" / f"{name('/videos/001.mp4')}.parquet"
    table = pq.read_table(file)
    values = np.full((4, 16), np.nan, np.float32)
    pq.write_table(table.set_column(4, "features", pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 16)), file)
    lines = [json.loads(line) for line in (features / "journal.jsonl").read_text().splitlines()]
    data = file.read_bytes()
    lines[1] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (features / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    index, added = Index.build(features, tmp_path / "i")
    assert len(added.added) == 1
    assert "not finite" in added.left_out[0]
    holds(index, {"/videos/000.mp4": content["/videos/000.mp4"]})


def test_an_empty_collection(tmp_path, run):
    features = write(tmp_path / "f", {})
    code, out, _ = run("index", "build", features, tmp_path / "i")
    assert code == 0
    assert "exact search over 0 clips of 0 videos" in out
    assert run("index", "info", tmp_path / "i")[0] == 0
    for args in (
        ("index", "recall", tmp_path / "i"),
        ("search", tmp_path / "i", "a"),
        ("search", tmp_path / "i", "--label", "a"),
    ):
        code, out, err = run(*args)
        assert (code, out) == (2, "")
        assert "fault" not in err
    write(features, drawn(1, 1))
    assert run("index", "add", features, tmp_path / "i")[0] == 0
    code, out, _ = run("search", tmp_path / "i", "000")
    assert (code, out) == (0, "no clips\n")  # its only clip is itself


def damage_bytes(path):
    with path.open("r+b") as file:
        file.seek(matrix.HEADER + 999)
        file.write(b"\xff\x00\xff")


DAMAGE = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, matrix.HEADER + 100),
    "a header of nonsense": lambda path: path.write_bytes(b"[3]" + path.read_bytes()[3:]),
    "flipped bytes": damage_bytes,
    "another index's": None,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_matrix_is_made_again(how, tmp_path):
    content = drawn(5, 20)
    Index.build(write(tmp_path / "f", content), tmp_path / "i")
    path = tmp_path / "i" / matrix.FILE
    sound = path.read_bytes()
    if how == "another index's":
        Index.build(write(tmp_path / "g", drawn(5, 20, seed=3) | {"/x.mp4": content["/videos/000.mp4"]}), tmp_path / "j")
        shutil.copy(tmp_path / "j" / matrix.FILE, path)
    else:
        DAMAGE[how](path)
    holds(Index.open(tmp_path / "i"), content)
    assert path.read_bytes() == sound


def test_the_matrix_grows_in_place(tmp_path):
    content = drawn(5, 20)
    features = write(tmp_path / "f", content)
    index, _ = Index.build(features, tmp_path / "i")
    path = tmp_path / "i" / matrix.FILE
    before, number = path.read_bytes(), path.stat().st_ino
    more = {f"/more{path}": array for path, array in drawn(2, 7, seed=1).items()}
    index.add(write(features, more))
    assert path.stat().st_ino == number
    assert path.read_bytes()[matrix.HEADER : len(before)] == before[matrix.HEADER :]
    holds(index, content | more)
    with path.open("ab") as file:  # by somebody who was killed then
        file.write(b"half a vector")
    holds(Index.open(tmp_path / "i"), content | more)


def test_where_nothing_can_be_written_it_is_searched(tmp_path, monkeypatch):
    content = drawn(5, 20)
    Index.build(write(tmp_path / "f", content), tmp_path / "i")
    (tmp_path / "i" / matrix.FILE).unlink()

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(matrix, "locked", refused)
    holds(Index.open(tmp_path / "i"), content)
    assert not (tmp_path / "i" / matrix.FILE).exists()


def test_an_open_index_sees_what_another_adds_and_removes(tmp_path):
    content = drawn(3, 9)
    features = write(tmp_path / "f", content)
    reader, _ = Index.build(features, tmp_path / "i")
    writer = Index.open(tmp_path / "i")
    writer.remove([name("/videos/001.mp4")])
    holds(reader, {path: array for path, array in content.items() if "001" not in path})
    writer.add(features)
    holds(reader, content)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("index.json", None, "is no index"),
        ("index.json", "{", "is damaged"),
        ("index.json", "[]", "does not know"),
        ("index.json", '{"format": 2, "settings": {}, "exact_up_to": 1}', "does not know"),
        ("index.json", '{"format": 1, "settings": {}, "exact_up_to": "many"}', "does not know"),
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
        ("index", "build", tmp_path / "no", tmp_path / "i"): "holds no features",
        ("index", "build", tmp_path / "full", tmp_path / "i"): "holds no features",
        ("index", "build", tmp_path / "file", tmp_path / "i"): "",
        ("index", "build", features, tmp_path / "full"): "is not empty",
        ("index", "build", features, features): "is not empty",
        ("index", "build", features, tmp_path / "file"): "is not a folder",
        ("index", "build", features, tmp_path / "file" / "i"): "is not a folder",
        ("index", "build", features, tmp_path / "i", "--exact-up-to", -1): "exact_up_to",
        ("index", "add", features, tmp_path / "full"): "is no index",
        ("index", "info", features): "is no index",
        ("index", "info", tmp_path / "file"): "is no index",
        ("search", tmp_path / "no", "a"): "is no index",
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
    with pytest.raises(UsageError, match="not ours"):
        Index.open(tmp_path / "i")


def test_the_approximate_index_grows_with_the_table(tmp_path, monkeypatch):
    from ig65m.search import index as module

    monkeypatch.setattr(module, "BESIDE", 100)
    content = drawn(11, 100)
    features = write(tmp_path / "f", content)
    said = []
    index, _ = Index.build(features, tmp_path / "i", exact_up_to=500, say=said.append)
    assert "1,100 clips, more than 500: making the approximate index" in said.pop()

    def more(videos, first):
        here = {f"/more/{first + n}.mp4": array for n, array in enumerate(drawn(videos, 100, seed=first).values())}
        content.update(here)
        index.add(write(features, here), say=said.append)
        holds(index, content)
        return Table(tmp_path / "i").unlearned()

    assert more(1, 100) == 100
    assert said == []
    assert "100 of them beside the approximate index" in index.described()
    assert more(2, 200) == 0
    assert said == ["taking 300 clips into the approximate index"]
    assert more(31, 300) == 0
    assert said[1:] == ["4,500 clips, grown from 1,100: making the approximate index, which takes some minutes for a million"]
    index.remove([name(path) for path in content][10:])
    assert index.kind == "exact"
    holds(index, dict(list(content.items())[:10]))


def test_without_its_approximate_index_it_is_exact_and_says_so(tmp_path):
    content = drawn(11, 100)
    index, _ = Index.build(write(tmp_path / "f", content), tmp_path / "i", exact_up_to=500)
    lancedb.connect(tmp_path / "i").open_table("clips").drop_index("vector_idx")
    holds(index, content)
    assert "for want of an approximate index" in index.described()
    index.add(tmp_path / "f")
    assert "for want" not in index.described()


def test_small_files_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(adding, "PART", 1)
    content = drawn(70, 3)
    index, _ = Index.build(write(tmp_path / "f", content), tmp_path / "i")
    assert Table(tmp_path / "i").pieces() == 1
    holds(index, content)


WORK = """
import sys
from pathlib import Path
import ig65m.search.adding as adding
from ig65m.search.index import Index
adding.PART = 2000
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


@pytest.mark.slow
@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_killed_at_any_moment(exact_up_to, tmp_path):
    content, chance = drawn(30, 40), random.Random(exact_up_to)
    features, folder = write(tmp_path / "f", content), tmp_path / "i"
    for kill in range(5):
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


@pytest.mark.slow
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


def test_filters_hold_in_the_table_that_changes(tmp_path):
    content = drawn(4, 5)
    features = write(tmp_path / "f", content)
    index, _ = Index.build(features, tmp_path / "i")
    where = Where(not_videos=(name("/videos/002.mp4"),))
    query = content["/videos/002.mp4"][:1]
    assert len(index.search(query, 99, where=where)) == 15
    index.remove([name("/videos/001.mp4")])
    assert {hit.path[8:11] for hit in index.search(query, 99, where=where)} == {"000", "003"}

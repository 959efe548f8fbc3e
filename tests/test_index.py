"""What is in an index is what is in the folders of features: added again, changed, removed, refused."""

import hashlib
import json

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ig65m.errors import UsageError
from ig65m.search import ingest
from ig65m.search.hits import Where
from ig65m.search.index import Index
from ig65m.search.lance import Table
from ig65m.store.folder import read_journal
from tests.indexes import SETTINGS, drawn, holds, name, unit, write

pytestmark = pytest.mark.slow


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
        np.testing.assert_allclose(np.stack(rows["vector"].to_numpy()), unit(np.stack(file["features"].to_numpy())), atol=1e-6)
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
    assert "has no video 'v03.mp4'; did you mean" in err
    code, _, err = run("index", "remove", tmp_path / "index", "v00")
    assert code == 2
    assert "matches 2 videos" in err


@pytest.mark.parametrize("part", [1, 1 << 20], ids=["a video at a time", "all at once"])
@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_added_changed_removed(part, exact_up_to, tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "PART", part)
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
    assert "was changed" in err
    write(features, {"/videos/002.mp4": content["/videos/002.mp4"], "/videos/003.mp4": None})
    code, out, err = run("index", "add", features, tmp_path / "i")
    assert code == 3
    assert "1 added, 0 replaced, 4 unchanged, 3 left out" in out
    index = Index.open(tmp_path / "i")
    assert name("/videos/003.mp4") not in index.sources()  # it failed since: what was there before is no video any more
    assert index.search(content["/videos/000.mp4"][:1], 99)[-1].score < 0
    zeros = [hit for hit in index.search(content["/videos/000.mp4"][:1], 99) if hit.path == "/videos/zero.mp4"]
    assert [hit.score for hit in zeros] == [0, 0]
    with pytest.raises(UsageError, match="zero vector"):
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


def test_an_open_index_sees_what_another_adds_and_removes(tmp_path):
    content = drawn(3, 9)
    features = write(tmp_path / "f", content)
    reader, _ = Index.build(features, tmp_path / "i")
    writer = Index.open(tmp_path / "i")
    writer.remove([name("/videos/001.mp4")])
    holds(reader, {path: array for path, array in content.items() if "001" not in path})
    writer.add(features)
    holds(reader, content)


def test_filters_hold_in_the_table_that_changes(tmp_path):
    content = drawn(4, 5)
    features = write(tmp_path / "f", content)
    index, _ = Index.build(features, tmp_path / "i")
    where = Where(not_videos=(name("/videos/002.mp4"),))
    query = content["/videos/002.mp4"][:1]
    assert len(index.search(query, 99, where=where)) == 15
    index.remove([name("/videos/001.mp4")])
    assert {hit.path[8:11] for hit in index.search(query, 99, where=where)} == {"000", "003"}


def test_the_approximate_index_grows_with_the_table(tmp_path, monkeypatch):
    from ig65m.search import index as module

    monkeypatch.setattr(module, "BESIDE", 100)
    content = drawn(11, 100)
    features = write(tmp_path / "f", content)
    said = []
    index, _ = Index.build(features, tmp_path / "i", exact_up_to=500, say=said.append)
    assert "1,100 clips, more than 500: building the approximate index" in said.pop()

    def more(videos, first):
        here = {f"/more/{first + n}.mp4": array for n, array in enumerate(drawn(videos, 100, seed=first).values())}
        content.update(here)
        index.add(write(features, here), say=said.append)
        holds(index, content)
        return Table(tmp_path / "i").unlearned()

    assert more(1, 100) == 100
    assert said == []
    assert "100 of them outside the approximate index" in index.described()
    assert more(2, 200) == 0
    assert said == ["adding 300 clips to the approximate index"]
    assert more(31, 300) == 0
    assert said[1:] == ["4,500 clips, grown from 1,100: building the approximate index, which takes some minutes for a million"]
    index.remove([name(path) for path in content][10:])
    assert index.kind == "exact"
    holds(index, dict(list(content.items())[:10]))


def test_without_its_approximate_index_it_is_exact_and_says_so(tmp_path):
    content = drawn(11, 100)
    index, _ = Index.build(write(tmp_path / "f", content), tmp_path / "i", exact_up_to=500)
    lancedb.connect(tmp_path / "i").open_table("clips").drop_index("vector_idx")
    holds(index, content)
    assert "the next `ig65m index add` builds the approximate index" in index.described()
    index.add(tmp_path / "f")
    assert "the next `ig65m index add` builds" not in index.described()


def test_small_files_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "PART", 1)
    content = drawn(70, 3)
    index, _ = Index.build(write(tmp_path / "f", content), tmp_path / "i")
    assert Table(tmp_path / "i").pieces() == 1
    holds(index, content)

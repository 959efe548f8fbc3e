"""The documentation is true: its commands run, its links lead somewhere, every command is in the README."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ig65m.cli
from ig65m.zoo.load import load_model

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLE = (ROOT / "docs" / "from-ig65m-pytorch.md").read_text("utf-8").partition("What differs")[0]
OURS = [command for row in TABLE.splitlines() for command in re.findall(r"`(ig65m [^`]*)`", row.rpartition(" | ")[2])]


@pytest.mark.slow
@pytest.mark.parametrize("command", OURS)
def test_the_commands_for_people_from_ig65m_pytorch_run(command, tiny, bigbuckbunny, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny, "WEIGHTS.pkl")
    shutil.copy(bigbuckbunny, "VIDEO.mp4")
    torch.save(load_model(tiny).state_dict(), "MODEL.pth")
    Path("LABELS.json").write_text(str([f"name {n}" for n in range(11)]).replace("'", '"'))
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    with pytest.raises(SystemExit) as stop:
        ig65m.cli.main()
    assert not stop.value.code
    assert ("FEATURES.npy" in command) == Path("FEATURES.npy").exists()
    assert ("OUT" in command) == Path("OUT.onnx").exists()


def test_the_table_has_commands():
    assert len(OURS) >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", page.read_text("utf-8")):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not heading or heading in headings(linked), f"{target}#{heading}"


def headings(page):
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    every = ("models", "convert", "classify", "extract", "bench", "quantize", "features", "index", "search", "explain", "serve")
    for command in (*every, "evaluate", "learn", "shots", "motion"):
        assert f"ig65m {command}" in readme


def blocks(page, language):
    fenced = (ROOT / page).read_text("utf-8").split("```")[1::2]
    return [block.removeprefix(f"{language}\n") for block in fenced if block.startswith(f"{language}\n")]


def test_the_readmes_ten_lines_run(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = blocks("README.md", "python")
    exec(code, {})
    out = capsys.readouterr().out
    assert "static" in out
    assert "(18, 128)" in out


@pytest.mark.slow
def test_the_readmes_commands_run(monkeypatch, tmp_path, capsys, bigbuckbunny, bikes):
    shutil.copy(bigbuckbunny, tmp_path / "holiday.mp4")
    (tmp_path / "videos").mkdir()
    shutil.copy(bigbuckbunny, tmp_path / "videos")
    shutil.copytree(ROOT / "src" / "ig65m" / "demo", tmp_path / "src" / "ig65m" / "demo")
    for name, video in (("rabbit", bigbuckbunny), ("street", bikes)):
        (tmp_path / "moves" / name).mkdir(parents=True)
        for copy in range(2):
            shutil.copy(video, tmp_path / "moves" / name / f"{copy}.mp4")
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("README.md", "") for line in block.splitlines() if line.startswith("ig65m ")]
    words = ("camera_motion", "ig65m models", " features", " index ", " search ")
    here = [line for line in commands if any(word in line for word in words)]
    assert len(here) == 11
    for line in here:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as stop:
            ig65m.cli.main()
        assert not stop.value.code, line
    assert Path("features.npz").exists()
    assert Path("int8.safetensors").exists()
    assert Path("mine.safetensors").exists()
    assert Path("code.png").exists()
    assert Path("where.mp4").exists()
    assert Path("out/annotations.json").exists()


@pytest.mark.slow
def test_the_ways_to_read_a_folder_of_features_give_what_is_in_it(undisturbed, tmp_path, monkeypatch):
    (tmp_path / "features").symlink_to(undisturbed)
    monkeypatch.chdir(tmp_path)
    polars, pandas, torch = blocks("docs/collections.md", "python")
    names = {}
    for code in (polars, pandas, torch):
        exec(code, names)
    every = sorted((undisturbed / "features").iterdir())
    by_hand = {path: np.stack(pq.read_table(path)["features"].to_numpy()) for path in every}
    first = by_hand[next(path for path in (tmp_path / "features" / "features").glob("*.parquet")).resolve()]
    np.testing.assert_array_equal(names["array"], first)
    np.testing.assert_array_equal(names["features"].numpy(), first)
    exec(polars, names)
    assert names["table"]["file"].n_unique() == 30
    np.testing.assert_array_equal(names["array"], np.concatenate(list(by_hand.values())))


def test_the_page_of_searching_is_true(monkeypatch, tmp_path):
    from tests.indexes import drawn, write

    features = write(tmp_path / "f", {"/videos/holiday.mp4": drawn(1, 5)["/videos/000.mp4"]} | drawn(4, 5, seed=1))
    monkeypatch.setattr(sys, "argv", ["ig65m", "index", "build", str(features), str(tmp_path / "index")])
    with pytest.raises(SystemExit):
        ig65m.cli.main()
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("docs/search.md", "python"):
        exec(code, names)
    assert len(names["table"]) == 25
    assert len(names["hits"]) == 4


def test_no_placeholder_is_left_in_a_page():
    word = re.compile(r"@@\w*|\b(?:FIGURES\w*|TODO|TBD|FIXME)\b")
    assert not [page.name for page in [*PAGES, ROOT / "CHANGELOG.md"] if word.search(page.read_text("utf-8"))]


def test_the_published_accuracies_and_their_protocols_are_those_of_the_cards():
    from ig65m.evaluate.protocol import vmz_protocol
    from ig65m.zoo.cards import CARDS

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs" / "evaluation.md").read_text("utf-8"), re.MULTILINE)
    cells = {name: [cell.strip() for cell in row.split("|")] for name, row in rows if name in CARDS}
    assert list(cells) == [name for name, card in CARDS.items() if card.top1 is not None]
    for name, row in cells.items():
        card, protocol = CARDS[name], vmz_protocol(CARDS[name])
        clips, full = str(protocol.clips or "all"), "yes" if protocol.full else "no"
        assert row == [str(card.top1), str(card.top5), str(card.clip_top1 or ""), clips, str(protocol.crops), full]

"""Compiled models come from the disk where they can be trusted, and are made anew where not."""

import shutil
import warnings
from dataclasses import replace
from importlib import import_module

import numpy as np
import openvino
import pytest

import ig65m
import ig65m.tasks.options
from ig65m.engines import cache, graph
from ig65m.engines import openvino as openvino_engine
from ig65m.engines.base import Work
from ig65m.engines.choice import choose
from ig65m.types import Preprocessing
from ig65m.zoo.load import load_model, load_weights

pytestmark = pytest.mark.slow

SMALL = Preprocessing(resize=(64, 72), crop=(64, 72), mean=(110.201, 100.64, 95.9966), std=(58.1489, 56.4701, 55.3324))
WORK = Work(preprocessing=SMALL, frames=8)
PIXELS = np.random.default_rng(0).integers(0, 256, WORK.shape, np.uint8)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path))
    return tmp_path / "compiled"


@pytest.fixture
def made(monkeypatch):
    """How many graphs have been made."""
    counted = []
    original = graph.graph_file
    monkeypatch.setattr(graph, "graph_file", lambda *args, **more: counted.append(1) or original(*args, **more))
    return counted


@pytest.fixture(scope="module")
def network(tiny):
    return load_weights(tiny)


def answer(network, work=WORK, precision=None, threads=None):
    clips = np.repeat(PIXELS, work.batch_size, 0)[:, : work.frames]
    return choose("openvino", precision, threads=threads).load(network, work)(clips)[0][0]


def test_a_second_start_takes_what_the_first_has_made(folder, made, network):
    first = answer(network)
    (entry,) = folder.iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(answer(network), first)
    np.testing.assert_array_equal(answer(network, threads=1), first)
    assert len(made) == 1


@pytest.mark.parametrize(("part", "shape"), [("motion", (1, 9, 96, 96, 3)), ("shots", (1, 100, 27, 48, 3))])
def test_the_networks_of_shots_and_motion_are_cached_too(folder, monkeypatch, part, shape):
    """A second start compiles nothing, and computes the same, to the bit."""
    load_network = import_module(f"ig65m.{part}.network").load_network
    compiled = []
    original = openvino_engine.compiled
    monkeypatch.setattr(openvino_engine, "compiled", lambda *args: compiled.append(1) or original(*args))
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    first, second = (load_network().run(pixels) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(compiled) == len(list(folder.iterdir())) == 1


def test_the_precision_is_that_of_the_entry(folder, network, has_bf16):
    """A processor with bfloat16 must not fall back on it, nor leave it, when a model comes from the disk."""
    precisions = ("bf16", "fp32") if has_bf16 else ("fp32",)
    wanted = {precision: answer(network, precision=precision) for precision in precisions}
    assert not np.array_equal(wanted.get("bf16"), wanted["fp32"])
    for precision in reversed(precisions):
        np.testing.assert_array_equal(answer(network, precision=precision), wanted[precision])


def test_what_computes_otherwise_has_an_entry_of_its_own(folder, made, network, monkeypatch, has_bf16):
    answer(network)
    answer(network, replace(WORK, batch_size=2))
    answer(network, replace(WORK, frames=7))
    answer(network, replace(WORK, preprocessing=replace(SMALL, mean=(0, 0, 0))))
    if has_bf16:
        answer(network, precision="bf16")
    other = load_weights("r2plus1d_10_camera_motion")
    answer(other)
    monkeypatch.setattr(openvino, "__version__", "another")
    answer(network)
    assert len(made) == len(list(folder.iterdir())) == 6 + has_bf16


def halved(entry, folder):
    entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])


def flipped(entry, folder):
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)


def emptied(entry, folder):
    entry.write_bytes(b"")


def of_another(entry, folder):
    (other,) = (path for path in folder.iterdir() if path != entry)
    shutil.copy(other, entry)


def open_to_all(entry, folder):
    entry.chmod(0o666)


def linked(entry, folder):
    entry.rename(folder / "elsewhere")
    entry.symlink_to(folder / "elsewhere")


def nonsense_with_a_digest(entry, folder):
    """What somebody wrote who knows the format: OpenVINO itself refuses it."""
    head = next(head for path, head in SEEN if path == entry)
    nonsense = np.zeros(1000, np.uint8)
    entry.write_bytes(cache._started(head, nonsense) + nonsense.tobytes())


SEEN = []


@pytest.mark.parametrize("harm", [halved, flipped, emptied, of_another, open_to_all, linked, nonsense_with_a_digest])
def test_what_cannot_be_trusted_is_made_again(folder, made, network, harm, monkeypatch):
    original = cache._entry
    monkeypatch.setattr(cache, "_entry", lambda key: SEEN.append(original(key)) or SEEN[-1])
    wanted = answer(network)
    (entry,) = folder.iterdir()
    answer(network, replace(WORK, frames=7))
    size = entry.stat().st_size
    harm(entry, folder)
    np.testing.assert_array_equal(answer(network), wanted)
    assert len(made) == 3
    assert 0 < entry.stat().st_size <= 1.1 * size
    assert not entry.is_symlink()
    np.testing.assert_array_equal(answer(network), wanted)
    assert len(made) == 3


def test_weights_that_were_given_up_for_a_refused_entry_are_loaded_again(folder, made, tiny, network, monkeypatch):
    original = cache._entry
    monkeypatch.setattr(cache, "_entry", lambda key: SEEN.append(original(key)) or SEEN[-1])
    wanted = answer(network)
    (entry,) = folder.iterdir()
    nonsense_with_a_digest(entry, folder)
    for graphs in (2, 2):
        given = load_weights(tiny)
        engine = choose("openvino").load(given, WORK, reload=lambda: load_weights(tiny))
        np.testing.assert_array_equal(engine(PIXELS)[0][0], wanted)
        assert given.arrays == {}
        assert len(made) == graphs


def test_a_cache_that_cannot_be_written_is_a_warning(monkeypatch, tmp_path, network, bigbuckbunny, tiny_model):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IG65M_CACHE", str(tmp_path / "file" / "folder"))
    with pytest.warns(RuntimeWarning, match="cannot be cached"):
        answer(network)


def test_the_command_line_says_a_warning_in_a_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        from ig65m.cli.terminal import say_warnings

        say_warnings()
        warnings.warn("the disk is full", RuntimeWarning, stacklevel=1)
    assert capsys.readouterr().err == "ig65m: the disk is full\n"


def test_the_oldest_entries_go(folder, network, monkeypatch):
    answer(network)
    (first,) = folder.iterdir()
    size = first.stat().st_size
    monkeypatch.setattr(cache, "MOST", 2.5 * size)
    answer(network, replace(WORK, frames=7))
    answer(network)  # used again, so younger than the other
    answer(network, replace(WORK, frames=6))
    assert len(list(folder.iterdir())) == 2
    assert first.exists()


def test_weights_are_given_up_only_where_nobody_else_has_the_network(folder, bigbuckbunny, tiny_model, monkeypatch):
    loaded = []
    monkeypatch.setattr(ig65m.tasks.options, "load_weights", lambda name: loaded.append(load_weights(name)) or loaded[-1])
    network = load_model(tiny_model)
    for _ in range(2):
        own = ig65m.extract(bigbuckbunny, model=network, end=1.0)
        named = ig65m.extract(bigbuckbunny, model=tiny_model, end=1.0)
        np.testing.assert_array_equal(own.array, named.array)
        assert own.model == named.model
    assert not any(weight.is_meta for weight in network.parameters())
    assert all(each.arrays == {} for each in loaded)
    assert len(loaded) == 2

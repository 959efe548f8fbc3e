"""The page of the Python API is that of the docstrings, and their examples run."""

import doctest
import inspect
import itertools
import runpy
from pathlib import Path

import av
import numpy
import pytest
import torch

import ig65m
from tests.videos import constant, encode

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(bigbuckbunny, tmp_path_factory):
    """Has a video of three seconds: 75 frames at 25 a second."""
    folder = tmp_path_factory.mktemp("examples")
    with av.open(str(bigbuckbunny)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), 75)]
    encode(folder / "video.mp4", frames, constant(75))
    return folder


def documented():
    for name in ig65m.__all__:
        found = getattr(ig65m, name)
        yield name, found
        if inspect.isclass(found):
            yield from ((f"{name}.{part}", member) for part, member in vars(found).items() if inspect.isfunction(member))


EXAMPLES = [(name, found.__doc__) for name, found in documented() if name != "cards" and ">>>" in (found.__doc__ or "")]
EXAMPLES.append(("ig65m", ig65m.__doc__))
CALLED_FIRST = {
    "classify",
    "classify_clips",
    "classify_many",
    "extract",
    "extract_many",
    "Extractor",
    "read_clips",
    "load_model",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_examples_run(name, text, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"ig65m": ig65m, "numpy": numpy, "torch": torch}
    example = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF)
    runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_what_people_call_first_has_an_example():
    assert {name for name, _ in EXAMPLES} >= CALLED_FIRST
    assert len(EXAMPLES) >= 18


def test_the_page_is_up_to_date():
    make = runpy.run_path(str(ROOT / "docs" / "make_api.py"))
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == make["make_page"](), "run python docs/make_api.py"
    listed = {"cards", *itertools.chain.from_iterable(make["GROUPS"].values())}
    assert listed == set(ig65m.__all__)


@pytest.mark.parametrize("name", ["classify", "classify_clips", "extract", "read_clips", "load_model"])
def test_help_names_each_parameter(name):
    function = getattr(ig65m, name)
    documented = function if name != "classify_clips" else ig65m.classify
    for parameter in inspect.signature(function).parameters:
        assert f"\n        {parameter}: " in documented.__doc__, parameter

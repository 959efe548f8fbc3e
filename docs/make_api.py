"""Writes docs/api.md from the docstrings of the public API: python docs/make_api.py"""

import re
from pathlib import Path
from typing import Any

import griffe

import ig65m

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"
INTRO = """# Python API

`import ig65m` is all you need. It is fast: what a function needs is loaded when it is first called.

This page is made from the docstrings by `python docs/make_api.py`. A test runs every example in a folder with a `video.mp4` of
three seconds, after `import ig65m, numpy, torch`.
"""
GROUPS = {
    "Classify and extract": [
        *("classify", "classify_clips", "classify_many", "extract", "extract_many", "Extractor", "read_clips"),
        *("save_features", "load_features"),
    ],
    "Shots": ["detect_shots", "detect_shots_many", "ShotList", "Shot"],
    "Camera motion": [
        *("estimate_motion", "estimate_motion_many", "CameraMotion", "MotionSegment", "Move", "ClipMotion", "Speeds"),
    ],
    "Models": ["list_models", "cards", "load_model", "Card", "Preprocess"],
    "Training": ["ClipDataset", "read_label_list", "LabelList", "save_model"],
    "Inputs and options": ["Frames", "Segment", "Sampling", "Pooling", "Limits", "Preprocessing"],
    "Results": ["Features", "Prediction", "ClipPrediction", "Label", "ClipSpan", "Clip", "Failure"],
    "Errors": ["IgError", "VideoError", "UsageError", "ModelError", "CheckpointError", "DownloadError", "ProofError"],
}


def find(package: griffe.Module, name: str) -> griffe.Object:
    """The class or function behind a public name."""
    home, there = ig65m.home_of(name)
    found = package[f"{home}.{there}"]
    assert isinstance(found, griffe.Object), name
    return found


def signature(name: str, parameters: griffe.Parameters, returns: Any) -> str:
    """A signature as Python source, one parameter a line if there are many."""
    words = []
    for parameter in parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and "*" not in words:
            words.append("*")
        kind = "" if parameter.annotation is None else f": {parameter.annotation}"
        words.append(f"{parameter.name}{kind}" + ("" if parameter.default is None else f" = {parameter.default}"))
    ends = "" if returns is None or str(returns) == "None" else f" -> {returns}"
    line = f"{name}({', '.join(words)}){ends}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(words) + f",\n){ends}"


def prose(text: str) -> str:
    """A docstring as Markdown: paragraphs, sections of Google's style, examples as Python."""
    parts = []
    for section in griffe.Docstring(text).parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            parts.append(section.value)
        elif section.kind is griffe.DocstringSectionKind.examples:
            code = "\n".join(value for _, value in section.value)
            parts.append(f"```python\n{code}\n```")
        elif section.kind is griffe.DocstringSectionKind.admonition:
            parts.append(f"```python\n{section.value.description}\n```")
        else:
            parts.append(f"{section.kind.value.capitalize()}:")
            parts.append("\n".join(f"- {item(each)}" for each in section.value))
    return "\n\n".join(parts)


def item(element: Any) -> str:
    """One parameter, exception or result."""
    words = " ".join(element.description.split())
    name = getattr(element, "name", "") or str(element.annotation or "")
    return f"`{name}`: {words}" if name else words


def fields(found: griffe.Class) -> str:
    """The fields of a dataclass with their types, defaults and comments."""
    lines = (ROOT / found.relative_filepath).read_text("utf-8").splitlines()
    rows = []
    for name, attribute in found.attributes.items():
        if name.startswith("_") or "instance-attribute" not in attribute.labels or attribute.annotation is None:
            continue
        line = lines[(attribute.endlineno or 1) - 1]
        comment = line.rpartition("  # ")[2].strip() if "  # " in line else ""
        default = "" if attribute.value is None else f"`{attribute.value}`"
        rows.append(f"| `{name}` | `{str(attribute.annotation).replace('|', chr(92) + '|')}` | {default} | {comment} |")
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows]) if rows else ""


def entry(package: griffe.Module, name: str) -> str:
    """The section of one public name."""
    if name == "cards":
        return "### `ig65m.cards`\n\nThe `Card` of each model, by its name: a dictionary."
    found = find(package, name)
    assert found.docstring is not None, name
    parts = [f"### `ig65m.{name}`"]
    if isinstance(found, griffe.Function):
        parts += [f"```python\n{signature(name, found.parameters, found.returns)}\n```", prose(found.docstring.value)]
    elif isinstance(found, griffe.Class):
        init = found.members.get("__init__")
        own = isinstance(init, griffe.Function) and init.docstring is not None
        if own:
            parts.append(f"```python\n{signature(name, init.parameters, None)}\n```")
        parts.append(prose(found.docstring.value))
        if own:
            parts.append(prose(init.docstring.value))
        if not own and "dataclass" in found.labels and (table := fields(found)):
            parts.append(table)
        for method in found.functions.values():
            if not method.name.startswith("_") and method.docstring is not None:
                head = signature(f"{name}.{method.name}", method.parameters, method.returns)
                parts += [f"```python\n{head}\n```", prose(method.docstring.value)]
    return "\n\n".join(parts)


def make_page() -> str:
    """The page."""
    package = griffe.load("ig65m", search_paths=[ROOT / "src"])
    assert isinstance(package, griffe.Module)
    parts = [INTRO.strip()]
    for heading, names in GROUPS.items():
        parts += [f"## {heading}", *(entry(package, name) for name in names)]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(make_page(), "utf-8")

"""Every room imports only rooms above it; the package starts without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "ig65m"
ROWS = [
    {"errors", "types", "atomic", "memory"},
    {"models"},
    {"checkpoints"},
    {"zoo"},
    {"graph"},
    {"export"},
    {"engines"},
    {"convert"},
    {"video"},
    {"store"},
    {"pipeline"},
    {"tasks"},
    {"collection"},
    {"train", "bench", "quantize", "scale", "search", "explain"},  # what is built on the rooms above; none imports another
    {"server"},
    {"cli"},
]
RANK = {room: rank for rank, row in enumerate(ROWS) for room in row}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upwards(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in imported(ast.parse(path.read_text("utf-8"))):
        if name == "ig65m" or not name.startswith("ig65m."):
            continue
        other = name.split(".")[1]
        if room == "errors" or other != room:
            assert RANK[other] < RANK[room] or (RANK[other] == RANK[room] == 0 and other == "errors"), f"{room} imports {other}"


@pytest.mark.parametrize("start", ["import ig65m", "import ig65m.cli", "import sys; sys.argv = ['ig65m', '--help']; HELP"])
def test_starting_loads_neither_torch_nor_an_engine(start):
    run_help = "from ig65m.cli import app; app(standalone_mode=False)"
    code = (
        start.replace("HELP", run_help)
        + "; import sys; print(sorted({'torch', 'onnx', 'onnxruntime', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

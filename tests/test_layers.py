"""Each part of the package imports only parts above it; starting it loads neither torch nor an engine."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ig65m.zoo.cards import EMBEDDED

PACKAGE = Path(__file__).parent.parent / "src" / "ig65m"
LAYERS = [
    {"errors"},
    {"display"},
    {"types", "atomic", "memory", "cache"},
    {"video", "store", "metrics"},
    {"models", "pipeline"},
    {"checkpoints", "onnx_graph"},
    {"zoo"},
    {"engines", "onnx_export"},
    {"shots", "motion"},
    {"tasks", "convert"},
    {"collection"},
    {"train"},
    {"bench", "quantize", "search", "explain", "camera_motion", "learn", "evaluate"},
    {"server"},
    {"cli"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def test_imports_point_upwards_without_cycles():
    """Imports inside functions count; those for type checkers only do not make a cycle at run time, but count too."""
    imports = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        imports[module] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                imports[module] |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                imports[module] |= {alias.name for alias in node.names}
    imports = {module: {name for name in names if name in imports} - {module, "ig65m"} for module, names in imports.items()}
    del imports["ig65m"]
    for module, names in imports.items():
        part = module.split(".")[1]
        for name in names:
            other = name.split(".")[1]
            assert other == part or RANK[other] < RANK[part], f"{module} imports {name}"
    while leaves := [module for module, names in imports.items() if not names & imports.keys()]:
        for module in leaves:
            del imports[module]
    assert not imports, f"these import each other in a loop: {sorted(imports)}"


@pytest.mark.parametrize("start", ["import ig65m", "import ig65m.cli", "import sys; sys.argv = ['ig65m', '--help']; HELP"])
def test_starting_loads_neither_torch_nor_an_engine(start):
    run_help = "from ig65m.cli import app; app(standalone_mode=False)"
    code = (
        start.replace("HELP", run_help)
        + "; import sys; print(sorted({'torch', 'onnx', 'onnxruntime', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


LOADED = """
import sys
from ig65m.cli import main
try:
    main()
except SystemExit:
    heavy = {"av", "h5py", "lancedb", "onnx", "onnxruntime", "pyarrow", "rich", "torch"}
    print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "used"),
    [
        (["classify", "--json"], []),
        (["extract", "--output", "f.npz"], []),
        (["extract", "--output", "f.parquet"], ["pyarrow"]),
        (["extract", "--output", "folder"], ["pyarrow"]),
    ],
)
def test_a_run_on_a_cpu_loads_only_what_it_uses(args, used, bigbuckbunny, tmp_path):
    """The second run: the first one compiles the network, for which it needs its graph."""
    command, *rest = args
    words = [command, str(bigbuckbunny), "--model", EMBEDDED, "--end", "1", *rest]
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        run = [sys.executable, "-c", LOADED, *words]
        done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path / folder)
    assert done.stdout.splitlines()[-1] == str(used)

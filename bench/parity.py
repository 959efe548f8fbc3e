"""Differences between our networks and the originals in Caffe2: `python bench/parity.py [NETWORK...]`.

For each network of tests/golden, `ig65m convert` converts the seeded checkpoint, and Caffe2's clip runs through PyTorch and
ONNX Runtime. For `fcn_` networks, the class map is compared in PyTorch. Prints the largest differences of features and logits,
relative to the largest value, as a table. `--json FILE` appends JSON lines with the versions; `--page FILE` writes
docs/proof.md.
"""

import argparse
import json
import os
import pickle
import platform
import runpy
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from ig65m.convert import convert
from ig65m.models.resnet import ResNet
from ig65m.zoo.load import load_model

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
BLOBS = runpy.run_path(str(GOLDEN / "blobs.py"))
PAGE = """# Agreement with Caffe2

These are the largest differences of features and logits to those of the original builders on the real Caffe2 operators,
relative to the largest value, on the same seeded weights and clip ([tests/golden](../tests/golden/README.md)). Each
checkpoint was converted by `ig65m convert`; PyTorch ran the .safetensors, ONNX Runtime the .onnx. The tests require 1e-5
for every network in PyTorch, and for one network of each kind in ONNX Runtime.

```
python bench/parity.py --page docs/proof.md
```

Machine: {machine}, {versions}.

| network | clip | features, PyTorch | logits, PyTorch | features, ONNX Runtime | logits, ONNX Runtime |
|---|---|---|---|---|---|
{rows}

Rows with `fcn_` are class maps of the fully convolutional mode, on a crop larger than that of the training. Rows with
`tiny_` are narrow networks whose checkpoints Python 2 wrote. Float32 has a relative precision of 6e-8; sums of thousands of
products in another order differ by several times that.
"""


def difference(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest absolute difference, relative to the largest expected value."""
    return float(np.abs(got - wanted.reshape(got.shape)).max() / np.abs(wanted).max())


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Compare one golden network; returns differences by engine and output."""
    card = json.loads((GOLDEN / f"{name}.json").read_text())
    answers = np.load(GOLDEN / f"{name}.npz")
    checkpoint = GOLDEN / f"{name}.pkl"
    if not checkpoint.exists():
        checkpoint = folder / f"{name}.pkl"
        checkpoint.write_bytes(pickle.dumps(BLOBS["checkpoint"](card), protocol=2))
    clip: NDArray[np.float32] = BLOBS["clip"](card)
    row: dict[str, Any] = {"network": name, "clip": f"{card['frames']}x{card['crop']}x{card['crop']}"}
    if "class_map" in answers:
        model = load_model(checkpoint)
        assert isinstance(model, ResNet)
        with torch.inference_mode():
            class_map = model.class_map(model.forward_features(torch.from_numpy(clip)), (7, 7))
        return row | {"pytorch": {"logits": difference(class_map.numpy(), answers["class_map"])}, "onnxruntime": {}}
    wanted = {"features": answers["fc6" if card["caffe2_model_name"] == "c3d" else "features"], "logits": answers["logits"]}
    files = convert(checkpoint, folder / name, frames=card["frames"]).files
    model = load_model(files[0])
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(clip))
        ours = {"features": model.forward_head(maps, pre_logits=True).numpy(), "logits": model.forward_head(maps).numpy()}
    session = onnxruntime.InferenceSession(files[2], providers=["CPUExecutionProvider"])
    theirs = dict(zip(wanted, session.run(list(wanted), {"clips": clip}), strict=True))
    return row | {
        "pytorch": {key: difference(ours[key], wanted[key]) for key in wanted},
        "onnxruntime": {key: difference(theirs[key], wanted[key]) for key in wanted},
    }


def shown(row: dict[str, Any]) -> list[str]:
    """Format a row: four differences, or a dash if not compared."""
    numbers = [row[engine].get(what) for engine in ("pytorch", "onnxruntime") for what in ("features", "logits")]
    return [row["network"], row["clip"], *("-" if number is None else f"{number:.1e}" for number in numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("networks", nargs="*", help="names of golden files; default: all")
    parser.add_argument("--json", type=Path, help="append JSON lines to this file")
    parser.add_argument("--page", type=Path, help="write the page that states the proof")
    parser.add_argument("--machine", default=f"{platform.machine()}, {os.cpu_count()} cores", help="what to call this machine")
    args = parser.parse_args()
    versions = {name: version(name) for name in ("ig65m", "torch", "onnxruntime", "numpy")}
    versions["python"] = platform.python_version()
    print(f"{'network':24}{'clip':>12}{'PyTorch: features':>20}{'logits':>9}{'ONNX Runtime: features':>25}{'logits':>9}")
    rows = []
    for name in args.networks or sorted(path.stem for path in GOLDEN.glob("*.json")):
        with tempfile.TemporaryDirectory() as folder:
            row = measure(name, Path(folder))
        rows.append(row)
        network, clip, *numbers = shown(row)
        print(f"{network:24}{clip:>12}{numbers[0]:>20}{numbers[1]:>9}{numbers[2]:>25}{numbers[3]:>9}", flush=True)
        if args.json:
            with args.json.open("a") as out:
                out.write(json.dumps(row | {"machine": args.machine, "versions": versions}) + "\n")
    if args.page:
        used = ", ".join(f"{name} {number}" for name, number in versions.items() if name != "ig65m")
        table = "\n".join(f"| {' | '.join(shown(row))} |" for row in rows)
        args.page.write_text(PAGE.format(machine=args.machine, versions=used, rows=table))


if __name__ == "__main__":
    main()

"""How far our networks are from what the original ones answered in Caffe2: `python bench/parity.py`.

For each network of tests/golden: the seeded checkpoint goes through `ig65m convert`, and Caffe2's clip through PyTorch and
through ONNX Runtime on the converted files. Prints the largest difference of the logits relative to the largest logit, as a
table; `--json FILE` appends JSON lines with the versions.
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
from ig65m.zoo.load import load_model

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
BLOBS = runpy.run_path(str(GOLDEN / "blobs.py"))


def difference(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Largest absolute difference, relative to the largest wanted value."""
    return float(np.abs(got - wanted.reshape(got.shape)).max() / np.abs(wanted).max())


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Convert one golden network and compare."""
    card = json.loads((GOLDEN / f"{name}.json").read_text())
    answers = np.load(GOLDEN / f"{name}.npz")
    checkpoint = GOLDEN / f"{name}.pkl"
    if not checkpoint.exists():
        checkpoint = folder / f"{name}.pkl"
        checkpoint.write_bytes(pickle.dumps(BLOBS["checkpoint"](card), protocol=2))
    files = convert(checkpoint, folder / name, frames=card["frames"]).files
    clip: NDArray[np.float32] = BLOBS["clip"](card)
    with torch.inference_mode():
        logits = load_model(files[0])(torch.from_numpy(clip)).numpy()
    session = onnxruntime.InferenceSession(files[2], providers=["CPUExecutionProvider"])
    row = {
        "network": name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "frames": card["frames"],
        "pytorch": difference(logits, answers["logits"]),
        "onnxruntime": difference(session.run(["logits"], {"clips": clip})[0], answers["logits"]),
    }
    for file in (*files, folder / f"{name}.pkl"):
        file.unlink(missing_ok=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="append JSON lines to this file")
    args = parser.parse_args()
    versions = {name: version(name) for name in ("ig65m", "torch", "onnxruntime", "numpy")} | {
        "python": platform.python_version()
    }
    print(f"{'network':26}{'frames':>6}{'PyTorch':>10}{'ONNX Runtime':>14}")
    for card in sorted(GOLDEN.glob("*.json")):
        with tempfile.TemporaryDirectory() as folder:
            row = measure(card.stem, Path(folder))
        print(f"{row['network']:26}{row['frames']:>6}{row['pytorch']:>10.1e}{row['onnxruntime']:>14.1e}", flush=True)
        if args.json:
            with args.json.open("a") as out:
                out.write(json.dumps(row | {"versions": versions}) + "\n")


if __name__ == "__main__":
    main()

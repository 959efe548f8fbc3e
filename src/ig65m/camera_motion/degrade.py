"""Degrades frames as cameras and codecs do: exposure, colour, noise, H.264, and resizing."""

import io
from fractions import Fraction

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIZE = 64  # edge of the network's input in pixels
COMPRESSED = 0.25  # share of clips that are encoded as H.264


def degrade(rng: np.random.Generator, pictures: Tensor) -> Tensor:
    """Add exposure, colour, flicker and sensor noise to (T, 3, H, W) float32 on 0..255."""
    count = len(pictures)
    if rng.random() < 0.15:
        pictures = pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    elif rng.random() < 0.3:
        pictures = pictures[:, torch.from_numpy(rng.permutation(3))]
    pictures = pictures / 255
    if rng.random() < 0.3:
        pictures = pictures.clamp(0, 1) ** rng.uniform(0.5, 2.0)
    gain, lift = np.ones(count), np.zeros(count)
    if rng.random() < 0.5:  # contrast and brightness of the whole clip
        contrast = rng.uniform(0.25, 1.3)
        gain, lift = gain * contrast, lift + rng.uniform(-0.1, max(1.05 - contrast, 0.0))
    if rng.random() < 0.2:  # automatic exposure, a fade, a flickering light
        gain = gain * (1 + rng.uniform(-0.4, 0.4) * np.linspace(-0.5, 0.5, count))
        gain = gain * (1 + rng.normal(0, rng.uniform(0, 0.08), count))
    tint = rng.uniform(0.85, 1.15, 3) if rng.random() < 0.3 else np.ones(3)
    factor = torch.from_numpy((gain[:, None] * tint[None]).astype(np.float32))[:, :, None, None]
    pictures = pictures * factor + torch.from_numpy(lift.astype(np.float32))[:, None, None, None]
    pictures = pictures.clamp(0, 1) * 255
    if rng.random() < 0.4:
        noise = np.abs(rng.normal(0, 8))
        pictures = pictures + torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32)) * noise
    return pictures.clamp(0, 255)


def reduce(pictures: Tensor, rng: np.random.Generator, edge: int = SIZE) -> Tensor:
    """(T, 3, H, W) float32 on 0..255 -> (T, 3, edge, edge) uint8 by areas, sometimes through H.264."""
    square = pictures.shape[2] == pictures.shape[3] == 2 * edge
    if square and rng.random() > COMPRESSED:
        return halve(pictures)
    frames = pictures.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(_through_h264(rng, frames, edge)).permute(0, 3, 1, 2)


def halve(pictures: Tensor) -> Tensor:
    """(T, 3, H, W) float32 on 0..255 -> (T, 3, H / 2, W / 2) uint8."""
    return F.avg_pool2d(pictures, 2).round().to(torch.uint8)


def _through_h264(rng: np.random.Generator, frames: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    """(T, H, W, 3) -> (T, edge, edge, 3), encoded and decoded on the way."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        preset = ("ultrafast", "superfast", "veryfast")[rng.integers(3)]
        stream.options = {"preset": preset, "crf": str(rng.integers(15, 36)), "bf": str(rng.integers(0, 3))}
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as encoded:
        decoded = [
            frame.to_ndarray(format="rgb24", width=edge, height=edge, interpolation="AREA", src_colorspace="ITU601")
            for frame in encoded.decode(video=0)
        ]
    return np.stack(decoded)

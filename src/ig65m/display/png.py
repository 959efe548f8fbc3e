"""PNG files, without a library."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def indexed_png(levels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Return the file of a picture: levels (H, W), each a row of the palette, RGB (256, 3)."""
    height, width = levels.shape
    lines = np.pad(levels, ((0, 0), (1, 0)))  # a line begins with its filter; 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, colours of a palette
    chunks = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

"""Folders of features made of numbers, to build indexes of."""

import numpy as np

from ig65m.store.folder import Store, result_name
from ig65m.types import ClipSpan, Failure, Features, Label, Segment

SETTINGS = {
    "name": "numbers",
    "sha256": "5" * 64,
    "preprocessing": {"resize": [8, 8], "resampling": "area"},
    "sampling": {"frames": 8, "frame_step": 1, "stride": None, "fps": None, "start": None, "end": None, "tail": "pad"},
    "pooling": {"spatial": "mean", "temporal": "mean"},
    "precision": "fp32",
    "features": "float32",
}
SECONDS = 0.5  # of a clip


def spans(count, stride=SECONDS):
    return tuple(ClipSpan(n * stride, n * stride + SECONDS, 8 * n, 8 * n + 7) for n in range(count))


def write(folder, videos, settings=SETTINGS, stride=SECONDS):
    """`videos`: by path an array (clips, C), or it and the clips' labels, [(name, score), ...] each, or None: it failed."""
    with Store(folder, settings) as store:
        for path, content in videos.items():
            array, labels = content if isinstance(content, tuple) else (content, None)
            if array is None:
                features = Features(
                    path, "failed", np.zeros((0, 8), np.float32), (), settings, error=Failure("open", "is broken")
                )
            else:
                given = None if labels is None else tuple(tuple(Label(*each) for each in row) for row in labels)
                array = np.asarray(array, np.float32)
                features = Features(path, "ok", array, spans(len(array), stride), settings, labels=given)
            video = Segment(path)
            assert store.claim(result_name(video))
            store.commit(video, "content", features)
    return folder


def drawn(videos, clips, width=16, seed=0):
    """So many videos of so many clips each, by chance."""
    random = np.random.default_rng(seed)
    return {f"/videos/{n:03}.mp4": random.standard_normal((clips, width)).astype(np.float32) for n in range(videos)}


def name(path):
    """What a video is called in an index."""
    return result_name(Segment(path))

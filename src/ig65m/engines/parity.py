"""Which precisions of a GPU agree with float32, and how fast they are: measured once for each network, shape, device and
library.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ig65m.atomic import finished_file
from ig65m.cache import cache_folder
from ig65m.engines.base import Engine, Pooling, Precision, Work
from ig65m.engines.pytorch import PyTorchEngine
from ig65m.errors import ModelError, UsageError
from ig65m.models.weights import Weights

TRIED: Final[tuple[Precision, ...]] = ("fp32", "bf16", "fp16")
GOOD: Final = 0.9999  # lowest cosine over all clips at which a precision is chosen by default
BAD: Final = 0.999  # below it, even an explicitly requested precision is refused


@dataclass(frozen=True)
class Trial:
    """Lowest cosine of a clip's features with float32's, and seconds for a batch; both 0 if a result is not finite."""

    cosine: float
    seconds: float


Trials = dict[Precision, Trial]


def precision_on(device: torch.device, weights: Weights, work: Work, wanted: Precision | None) -> Precision:
    """Return `wanted`, or if None the fastest precision whose features have a cosine of at least GOOD with float32 on the CPU.

    The measurement is cached under all that it depends on.

    Raises UsageError, with the measurement, if `wanted` is below BAD or no precision is good.
    """
    facts = {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "network": str(weights.spec),
        "weights": weights.sha256,
        "shape": list(work.shape),
        "pixels": [work.preprocessing.mean, work.preprocessing.std],
    }
    trials = _remembered(facts, lambda: _trials(device, weights, replace(work, pooling=Pooling(), window=None)))
    cosines = ", ".join(f"{name} {each.cosine:.6f}" for name, each in trials.items())
    found = (
        f"on {facts['device']} with torch {facts['torch']}, cuDNN {facts['cudnn']} "
        f"(cosines of the features with float32's on the CPU: {cosines})"
    )
    if wanted is None:
        good = [name for name, each in trials.items() if each.cosine >= GOOD]
        if not good:
            raise UsageError(f"no precision agrees with float32 {found}; use another cuDNN, or the CPU")
        return min(good, key=lambda name: trials[name].seconds)
    if trials[wanted].cosine < BAD:
        raise UsageError(f"{wanted} does not agree with float32 {found}; use another precision or cuDNN")
    return wanted


def _trials(device: torch.device, weights: Weights, work: Work) -> Trials:
    clips = _pictures(work)
    reference = PyTorchEngine(weights, replace(work, batch_size=1))
    wanted = np.concatenate([reference(clip[None])[0] for clip in clips])
    return {
        precision: _trial(PyTorchEngine(weights, work, precision=precision, device=str(device)), clips, wanted, work.batch_size)
        for precision in TRIED
    }


def _pictures(work: Work) -> NDArray[Any]:
    """Return four fixed clips (4, T, H, W, 3) of a camera that stands still or pans over clouds and blocks of all sizes."""
    random = np.random.default_rng(0)
    clips = []
    for mode, down, right in (("bilinear", 0, 0), ("nearest", 0, 2), ("bilinear", 1, -1), ("nearest", 3, 1)):
        picture = torch.zeros(1, 3, *work.shape[2:4])
        for octave in range(1, 7):
            coarse = torch.from_numpy(random.uniform(-1, 1, (1, 3, 2**octave, 2**octave)).astype(np.float32))
            picture += F.interpolate(coarse / 2**octave, picture.shape[2:], mode=mode)
        picture = (255 * (picture - picture.min()) / (picture.max() - picture.min())).round()
        clips.append(torch.cat([picture.roll((down * t, right * t), (2, 3)) for t in range(work.frames)]))
    return torch.stack(clips).permute(0, 1, 3, 4, 2).numpy().astype(work.dtype, order="C")


def _trial(engine: Engine, clips: NDArray[Any], wanted: NDArray[np.float32], batch_size: int) -> Trial:
    """Compare an engine's features of `clips` with `wanted` (N, C), and time its batches."""
    batches = [clips[start : start + batch_size] for start in range(0, len(clips), batch_size)]
    try:
        got = np.concatenate([engine(batch)[0] for batch in batches])
    except ModelError:
        return Trial(0.0, 0.0)
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (got * wanted).sum(1) / np.maximum(norms, np.finfo(np.float32).tiny)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        engine(batches[0])
        times.append(time.perf_counter() - start)
    return Trial(float(cosines.min()), min(times))


def _remembered(facts: Mapping[str, Any], measure: Callable[[], Trials]) -> Trials:
    """Return the cached measurement for exactly these facts; otherwise measure and cache it."""
    key = json.dumps(facts, sort_keys=True)
    path = cache_folder() / "parity" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        text = path.read_text("utf-8")
        record = json.loads(text)["trials"]
        trials: Trials = {name: Trial(float(record[name]["cosine"]), float(record[name]["seconds"])) for name in TRIED}
        if text == _record(facts, trials):
            return trials
    trials = measure()
    with suppress(OSError, UsageError), finished_file(path) as temporary:
        temporary.write_text(_record(facts, trials), "utf-8")
    return trials


def _record(facts: Mapping[str, Any], trials: Trials) -> str:
    values = {name: asdict(each) for name, each in trials.items()}
    return json.dumps({"facts": facts, "trials": values}, sort_keys=True, allow_nan=False)

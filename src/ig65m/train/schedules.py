"""Learning rates: a linear warm-up, then half a cosine or steps."""

import math


def warm_up(step: int, *, peak: float, warmup: float) -> float:
    """Return the learning rate of a step below `warmup`: it rises to `peak` linearly."""
    return peak * (step + 1) / warmup


def cosine(step: int, *, peak: float, steps: int, warmup: float) -> float:
    """Return the learning rate of a step: after the warm-up of `warmup` steps, half a cosine from `peak` to 0 at `steps`."""
    if step < warmup:
        return warm_up(step, peak=peak, warmup=warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def stepped(step: int, *, peak: float, warmup: float, drop_every: int, factor: float) -> float:
    """Return the learning rate of a step: after the warm-up, `peak` times `factor` for each `drop_every` steps so far."""
    if step < warmup:
        return warm_up(step, peak=peak, warmup=warmup)
    return peak * factor ** (step // drop_every)

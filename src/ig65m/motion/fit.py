"""Camera motion of a pair of frames, from the normal equations of their alignment.

A camera that pans, tilts, zooms and rolls moves the content at (x, y) by (u, v), in half heights from the centre:
u = a + s·x - r·y, v = b + s·y + r·x with 1 + s = e^zoom·cos(turn), r = e^zoom·sin(turn). These are four of the six parameters
of an affine move; which ones depends on the aspect ratio of the picture. `path.steady_moves` makes speeds of them.
"""

from types import ModuleType
from typing import Any, Final

WEAK: Final = 1e-3
"""Precision of the prior (mean 0), so that an empty picture has a solution."""

LEAST_AREA: Final = 0.05
"""Factor of areas below which a first alignment is wrong: it crushes or mirrors the picture."""


def fit(xp: ModuleType, start: Any, normal: Any, target: Any, aspect: Any) -> tuple[Any, Any]:
    """Fit the content's similarity to the alignment of P pairs.

    Args:
        xp: numpy or torch, whichever the arrays are of.
        start: Parameters of the first alignment (P, 6).
        normal: Information about a further move of the aligned frame (P, 6, 6).
        target: Right side of the normal equations of that move (P, 6).
        aspect: Width divided by height of the pictures (P,).

    Returns:
        a in widths, b in heights, s, r (P, 4), and their covariances (P, 4, 4).
    """
    one, none = xp.ones_like(aspect), xp.zeros_like(aspect)
    rows = [
        [2 * one, none, none, none],
        [none, none, one, none],
        [none, none, none, -one / aspect],
        [none, 2 * one, none, none],
        [none, none, none, aspect],
        [none, none, one, none],
    ]
    similar = xp.stack([xp.stack(row, -1) for row in rows], -2)  # (P, 6, 4)
    # A further move r of the aligned frame is M·r in the second frame; M is the linear part of the first alignment.
    linear = xp.stack([1 + start[:, 1], start[:, 2], start[:, 4], 1 + start[:, 5]], -1).reshape(-1, 2, 2)
    area = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    # The inverse of a wrong one may not exist.
    linear = xp.where((area > LEAST_AREA)[:, None, None], linear, xp.eye(2, dtype=start.dtype))
    back = xp.einsum("pij,kl->pikjl", xp.linalg.inv(linear), xp.eye(3, dtype=start.dtype)).reshape(-1, 6, 6)
    whole = xp.einsum("pji,pjk,pkl->pil", back, normal, back)
    right = xp.einsum("pij,pj->pi", whole, start) + xp.einsum("pji,pj->pi", back, target)
    least = xp.einsum("pji,pjk,pkl->pil", similar, whole, similar) + WEAK * xp.eye(4, dtype=start.dtype)
    found = xp.linalg.solve(least, xp.einsum("pji,pj->pi", similar, right)[..., None])[..., 0]
    return found, xp.linalg.inv(least)

"""Camera motion of a pair of frames, from a field of displacements: a robust, weighted fit.

With content moving by (u, v) at (x, y), in half heights from the centre, a camera that pans, tilts, zooms and rolls gives
u = a + s·x - r·y, v = b + s·y + r·x with 1 + s = e^zoom·cos(turn), r = e^zoom·sin(turn).
"""

from types import ModuleType
from typing import Any, Final

ITERATIONS: Final = 3  # in which cells that disagree with the fit lose weight
SCALE: Final = 2.0  # standard deviations of a cell at which its weight halves (Cauchy)
SLACK: Final = 0.05  # cells that a displacement may be wrong by, whatever its standard deviation says
WEAK: Final = 1e-3  # precision of the prior (mean 0, units of the picture), so that an empty picture has a solution


def fit(xp: ModuleType, right: Any, down: Any, log_sigma: Any, camera: Any, aspect: Any) -> tuple[Any, Any]:
    """Fit the content's similarity to fields of P pairs.

    Args:
        xp: numpy or torch, whichever the arrays are of.
        right: Displacement to the right in cells (P, rows, columns).
        down: Displacement down in cells (P, rows, columns).
        log_sigma: Natural logarithm of the standard deviation of both, in cells (P, rows, columns).
        camera: Probability that only the camera moves the cell (P, rows, columns).
        aspect: Width divided by height of the pictures (P,).

    Returns:
        a in widths, b in heights, s, r (P, 4), and their covariances (P, 4, 4).
    """
    pairs, rows, columns = right.shape
    kind = {"dtype": right.dtype}
    x = ((xp.arange(columns, **kind) + 0.5) / columns - 0.5)[None, None, :] + xp.zeros_like(right)
    y = ((xp.arange(rows, **kind) + 0.5) / rows - 0.5)[None, :, None] + xp.zeros_like(right)
    one, none = xp.ones_like(right), xp.zeros_like(right)
    shape = aspect.reshape(pairs, 1, 1)
    # Displacements are shares of width and height: u = U·aspect.
    across = xp.stack([one, none, x, -y / shape], -1).reshape(pairs, rows * columns, 4)
    along = xp.stack([none, one, y, x * shape], -1).reshape(pairs, rows * columns, 4)
    u, v = (right / columns).reshape(pairs, -1), (down / rows).reshape(pairs, -1)
    sigma = (xp.sqrt(xp.exp(2 * log_sigma) + SLACK**2) / columns).reshape(pairs, -1)
    base = camera.reshape(pairs, -1) / sigma**2
    weight = base
    prior = WEAK * xp.eye(4, **kind)
    for turn in range(ITERATIONS):
        wide, tall = across * weight[..., None], along * weight[..., None]
        normal = xp.einsum("pnk,pnl->pkl", wide, across) + xp.einsum("pnk,pnl->pkl", tall, along) + prior
        target = xp.einsum("pnk,pn->pk", wide, u) + xp.einsum("pnk,pn->pk", tall, v)
        solved = xp.linalg.solve(normal, target[..., None])[..., 0]
        if turn < ITERATIONS - 1:
            off_u = u - xp.einsum("pnk,pk->pn", across, solved)
            off_v = v - xp.einsum("pnk,pk->pn", along, solved)
            weight = base / (1 + (off_u**2 + off_v**2) / (SCALE * sigma) ** 2)
    return solved, xp.linalg.inv(normal)

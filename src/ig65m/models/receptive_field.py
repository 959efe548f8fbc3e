"""Where the outputs of a layer are centred in the input: arithmetic on the plan. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass

from ig65m.models.layer_names import find_layer
from ig65m.models.plan import Conv, Layer, MaxPool, plan_of
from ig65m.models.spec import Spec


@dataclass(frozen=True)
class Centres:
    """Output `i` of a layer is centred at input `offset + stride * i`: frames in time, pixels in height and width."""

    stride: tuple[int, int, int] = (1, 1, 1)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def after(self, layer: Layer, *, keep_time: bool = False) -> "Centres":
        """Return the centres of the outputs of a layer whose inputs have these; `keep_time` drops its stride along time."""
        if not isinstance(layer, Conv | MaxPool):
            return self
        strides = (1, *layer.stride[1:]) if keep_time else layer.stride
        time, height, width = (
            (stride * own, offset + stride * ((kernel - 1) / 2 - padding))
            for stride, offset, own, kernel, padding in zip(
                self.stride, self.offset, strides, layer.kernel, layer.padding, strict=True
            )
        )
        return Centres((time[0], height[0], width[0]), (time[1], height[1], width[1]))


def centres(spec: Spec, layer: str, frames: int) -> Centres:
    """Return the centres of a layer's outputs for clips of `frames` frames. Raises UsageError as `find_layer`."""
    path, plan = find_layer(spec, layer), plan_of(spec)
    found, done = _through(Centres(), plan.stem, path)
    for stage, keeps in zip(plan.stages, spec.keeps_time(frames), strict=True):
        for number, block in enumerate(stage):
            if done:
                return found
            keep_time = keeps and number == 0
            if any(path in _paths(each) for each in block.shortcut):
                return _through(found, block.shortcut, path, keep_time=keep_time)[0]
            found, done = _through(found, block.layers, path, keep_time=keep_time)
            done = done or path == block.path
    return found


def _paths(layer: Layer) -> tuple[str, ...]:
    return (layer.path, layer.norm) if isinstance(layer, Conv) else (layer.path,)


def _through(start: Centres, layers: Iterable[Layer], path: str, *, keep_time: bool = False) -> tuple[Centres, bool]:
    """Go through layers up to a path; also return whether it is among them."""
    for layer in layers:
        start = start.after(layer, keep_time=keep_time)
        if path in _paths(layer):
            return start, True
    return start, False

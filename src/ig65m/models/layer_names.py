"""Names of a network's layers: the paths of its modules in PyTorch, up to the feature maps. No torch."""

from dataclasses import replace
from difflib import get_close_matches

from ig65m.errors import UsageError
from ig65m.models.plan import Conv, Layer, Plan, plan_of
from ig65m.models.spec import Spec


def layer_widths(spec: Spec) -> dict[str, int]:
    """Return the channels that each module with an output of its own gives, by its path, in the order of computation.

    Example: `stem.0`, `stem.1`, ... `layer1.0.conv1.0.0`, ... `layer1.0`, ... of an R(2+1)D network.
    """
    plan = plan_of(spec)
    widths = _widths_in(plan.stem, spec.in_channels)
    width = next(reversed(widths.values()))
    for stage in plan.stages:
        for block in stage:
            inner = _widths_in(block.layers, width)
            shortcut = _widths_in(block.shortcut, width)
            width = next(reversed(inner.values()))
            widths |= inner | shortcut | {block.path: width}
    return widths


def _widths_in(layers: tuple[Layer, ...], width: int) -> dict[str, int]:
    widths = {}
    for layer in layers:
        if isinstance(layer, Conv):
            width = layer.outputs
        widths[layer.path] = width
        if isinstance(layer, Conv):
            widths[layer.norm] = width
    return widths


def find_layer(spec: Spec, name: str) -> str:
    """Return the path of the module whose output a layer's name stands for.

    Every module of the network up to its feature maps has a name; that of a container, such as `stem`, `layer3` or
    `layer3.0.conv1`, stands for the last module in it. Raises UsageError, naming similar ones, for any other name.
    """
    widths = layer_widths(spec)
    if name in widths:
        return name
    inside = [path for path in widths if path.startswith(f"{name}.")]
    if inside:
        return inside[-1]
    names = dict.fromkeys(path[:place] for path in widths for place, mark in enumerate(f"{path}.") if mark == ".")
    main = [path for path in names if "." not in path]
    near = get_close_matches(name, names, 3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    modules = " and the modules in these" if len(main) < len(names) else ""
    raise UsageError(f"{spec} has no layer {name!r:.60}; it has {', '.join(main)}{modules}{hint}")


def plan_until(plan: Plan, path: str) -> Plan:
    """Return the plan up to the block, or the layer of the stem, that a path of `layer_widths` is in."""
    for number, layer in enumerate(plan.stem, 1):
        if path == layer.path or (isinstance(layer, Conv) and path == layer.norm):
            return replace(plan, stem=plan.stem[:number], stages=())
    name, block, *_ = path.split(".")
    last = int(name.removeprefix("layer")) - 1
    return replace(plan, stages=(*plan.stages[:last], plan.stages[last][: int(block) + 1]))

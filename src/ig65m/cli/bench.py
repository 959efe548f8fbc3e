"""ig65m bench"""

import json
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ig65m.cli.inputs import check_inputs
from ig65m.cli.options import ENGINE, Device, Json, Threads, option
from ig65m.cli.terminal import say
from ig65m.errors import UsageError

if TYPE_CHECKING:
    from ig65m.bench import Speed
    from ig65m.engines.choice import Choice


def bench(
    video: Annotated[
        str | None,
        typer.Argument(metavar="VIDEO", help="Video to decode. Default: measure the network only.", show_default=False),
    ] = None,
    model: Annotated[str, option(ENGINE, "Name or file of a model; a name needs no weights.")] = "r2plus1d_34_32_kinetics",
    engine: Annotated[
        list[str] | None,
        option(ENGINE, "Engine to measure; repeatable. Default: all.", metavar="<openvino|onnxruntime|pytorch>"),
    ] = None,
    precision: Annotated[
        list[str] | None,
        option(ENGINE, "Precision to measure; repeatable. Default: fp32 and bf16.", metavar="<fp32|bf16|fp16|int8>"),
    ] = None,
    batch_size: Annotated[int, option(ENGINE, "Clips that go through the network together.")] = 1,
    device: Device = "cpu",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Measure clips a second: network, decoding, both together, and the limit that the machine's arithmetic sets.

    With --json, each measurement is one JSON object on a line of its own.

    Example: ig65m bench holiday.mp4 --engine openvino
    """
    if video is not None:
        check_inputs([video])
    from ig65m.bench import machine, measure, random_clips, weights_for
    from ig65m.engines.base import Work
    from ig65m.engines.choice import LIBRARIES, PRECISIONS, choose
    from ig65m.quantize import quantize

    weights = weights_for(model)
    default = ["bf16", "fp32"] if weights.quantization is None else ["int8"]
    wanted = sorted(precision or default)  # bf16 first: OpenVINO inspects the processor only once
    names = engine or [name for name in PRECISIONS if device == "cpu" or name == "pytorch"]
    for name in [name for name in names if not engine and find_spec(LIBRARIES[cast(Any, name)]) is None]:
        say(f"ig65m: {name} is not installed and not measured")
        names.remove(name)
    choices: list[Choice] = []
    for name in names:
        for each in wanted:
            if (engine and precision) or each in PRECISIONS.get(cast(Any, name), (each,)):
                if name == "openvino" and not precision and (reason := _unsupported(each)):
                    say(f"ig65m: {reason}; {each} is not measured in OpenVINO")
                else:
                    choices.append(choose(name, each, device, threads))
    work = Work(preprocessing=weights.card.preprocessing, frames=weights.card.frames or 8, batch_size=batch_size)
    of = dict.fromkeys(choices, weights)
    if weights.quantization is None and any(choice.precision == "int8" for choice in choices):
        say("ig65m: quantising on random clips; the speed does not depend on them")
        small = quantize(weights, list(random_clips(work, 4)), work)
        of |= {choice: small for choice in choices if choice.precision == "int8"}
    speeds = []
    runs = [(of[choice], choice) for choice in choices]
    for speed in measure(runs, None if video is None else Path(video), batch_size=batch_size):
        speeds.append(speed)
        if as_json:
            print(json.dumps({"model": model, **asdict(speed), "machine": machine()}), flush=True)
        else:
            say(f"ig65m: {speed.engine}, {speed.precision} measured")
    if not as_json:
        _print(speeds)


def _unsupported(precision: Any) -> str | None:
    """Return why OpenVINO cannot compute in a precision on this CPU; None if it can."""
    from ig65m.engines.openvino import core_for

    try:
        core_for(precision)
    except UsageError as error:
        return str(error)
    return None


def _print(speeds: "list[Speed]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def number(value: float | None, digits: int = 2) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="clips a second", title_justify="left")
    for name in ("engine", "precision"):
        table.add_column(name)
    for name in ("network", "limit", "of it", "GFLOP/s", "decoding", "both"):
        table.add_column(name, justify="right")
    for speed in speeds:
        share = f"{speed.network / speed.limit:.0%}"
        table.add_row(
            f"{speed.engine}",
            speed.precision,
            number(speed.network),
            number(speed.limit),
            share,
            number(speed.gflops, 0),
            number(speed.decode, 1),
            number(speed.both),
        )
    Console().print(table)

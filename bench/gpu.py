"""Measure the networks on a GPU: speed and parity of each optimisation, alone and together, in at most eight minutes.

python bench/gpu.py                           needs this repository, torch and numpy only; prints tables, then lines of JSON
python bench/gpu.py --device cpu --small      tries the script without a GPU

Each step runs the same network with the same random weights, without decoding. The baseline is the plain network in eager
float32, with TF32 off. Parity compares the features of small clips with those of the plain network on the CPU. Measurements
for which no time is left are listed as such.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from ig65m.engines.inference import Form, inference_form
from ig65m.engines.pytorch import exact, find_device
from ig65m.models.card import Card
from ig65m.models.network import Network, network_of
from ig65m.models.random_weights import random_weights
from ig65m.models.weights import Weights
from ig65m.zoo.cards import find_card
from ig65m.zoo.cost import cost

LIMIT = 7.5 * 60  # seconds after which nothing new is measured
NETWORKS = ("r2plus1d_34_32_kinetics", "ir_csn_152_32_ig65m_kinetics", "r2plus1d_34_8_kinetics")
SMALL_NETWORKS = ("r2plus1d_10_camera_motion", "ir_csn_50_32_kinetics")
BATCHES = (8, 32, 1)
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LONGEST = 3.0  # seconds for a measurement, but for one of three runs
KERNELS = 10

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """A way to run a network."""

    form: Form | None  # None: the plain network
    channels_last: bool = True
    recorded: bool = False  # as a CUDA graph
    compiled: bool = False  # by torch.compile


BASELINE = "plain"
ALL = "2-D, padded, fused, graph"
STREAMED = f"{ALL}, from pinned bytes"
STEPS = {
    BASELINE: Step(None, channels_last=False),
    "channels last": Step(None),
    "folded": Step(Form(flat=False)),
    "padded": Step(Form(8, 16, flat=False)),
    "2-D": Step(Form()),
    "2-D, padded": Step(Form(8, 16)),
    "2-D, fused": Step(Form(fused=True)),
    "2-D, graph": Step(Form(), recorded=True),
    "2-D, padded, fused": Step(Form(8, 16, fused=True)),
    ALL: Step(Form(8, 16, fused=True), recorded=True),
    "2-D, padded, compiled": Step(Form(8, 16), compiled=True),
}


@dataclass(frozen=True)
class Case:
    """What is measured: a step of a network in a precision, with clips a batch."""

    name: str
    step: str
    precision: str
    batch: int


class Recorded:
    """A function on a GPU, recorded once as a CUDA graph: each call then launches its hundreds of kernels at once."""

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self.input = example.clone()
        stream = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # in which cuDNN chooses its kernels
                function(self.input)
        torch.cuda.current_stream(example.device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(self.input)

    def __call__(self, x: Tensor) -> Tensor:
        """Run it; each call overwrites the output of the one before."""
        self.input.copy_(x, non_blocking=True)
        self.graph.replay()
        return self.output


def prepared(weights: Weights, step: Step, device: torch.device, dtype: torch.dtype) -> Network:
    """Return the network as a step says."""
    if step.form is not None:
        return inference_form(weights, device, dtype, step.form)
    # Not the arrays themselves, which the network would share.
    model = network_of(replace(weights, arrays={key: array.copy() for key, array in weights.arrays.items()}))
    model = model.requires_grad_(False).to(device, dtype)
    return model.to(memory_format=torch.channels_last_3d) if step.channels_last else model  # type: ignore[call-overload]


def run_of(model: Network, step: Step, example: Tensor) -> Run:
    """Return clips (N, 3, T, H, W) -> features (N, C)."""

    def features(x: Tensor) -> Tensor:
        return model.forward_features(x).float().mean((2, 3, 4))

    if step.compiled:
        return torch.compile(features)
    if step.recorded:
        if not example.is_cuda:
            raise NotImplementedError("CUDA graphs need a GPU")
        return Recorded(features, example)
    return features


def clips(card: Card, batch: int, device: torch.device, dtype: torch.dtype, step: Step) -> Tensor:
    """Return normalised random clips in the layout that a step takes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, card.frames or 8, *card.crop, generator=generator).to(device, dtype)
    return x.to(memory_format=torch.channels_last_3d) if step.channels_last else x


def synchronise(device: torch.device) -> None:
    """Wait for all work on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, longest: float) -> float:
    """Return the median time of at least three runs in about `longest` seconds, after one to warm up."""
    work()
    synchronise(device)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - started < longest and len(times) < 50):
        before = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - before)
    return statistics.median(times)


class Bench:
    """Measures cases on a device, and keeps their rows."""

    def __init__(self, device: torch.device, cards: dict[str, Card], longest: float, limit: float) -> None:
        self.device, self.cards, self.longest = device, cards, longest
        self.ends = time.monotonic() + limit
        self.rows: list[dict[str, object]] = []
        self.products: dict[str, float] = {}
        self.weights: dict[str, Weights] = {}
        self.wanted: dict[str, Tensor] = {}

    def measure(self, case: Case) -> None:
        """Measure a case, unless time is over, and add its row. An error, as of a missing operator, is a result."""
        row: dict[str, object] = dict(vars(case))
        if time.monotonic() > self.ends:
            row["error"] = "no time left"
        else:
            try:
                row |= self._streamed(case) if case.step == STREAMED else self._measured(case)
            except RuntimeError as error:
                row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
        self.rows.append(row)
        values = " ".join(f"{key} {value}" for key, value in row.items())
        print(values, file=sys.stderr, flush=True)
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _measured(self, case: Case) -> dict[str, object]:
        card, step, dtype = self.cards[case.name], STEPS[case.step], TYPES[case.precision]
        model = prepared(self.weights_of(case.name), step, self.device, dtype)
        row: dict[str, object] = {}
        if case.batch == BATCHES[0]:
            row |= self.parity(case, model)
        x = clips(card, case.batch, self.device, dtype, step)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        run = run_of(model, step, x)
        took = seconds(partial(run, x), self.device, self.longest)
        if self.device.type == "cuda":
            row["memory_mb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e6)
        speed = case.batch / took
        row["clips_a_second"] = round(speed, 2)
        row["share_of_product"] = round(2 * cost(card).multiply_adds * speed / self.product(case.precision), 3)
        return row

    def weights_of(self, name: str) -> Weights:
        """Return the weights of a network, made once."""
        if name not in self.weights:
            self.weights[name] = random_weights(self.cards[name])
        return self.weights[name]

    def parity(self, case: Case, model: Network) -> dict[str, object]:
        """Compare features of two small clips with those of the network as it is, in float32 on the CPU."""
        card = small(self.cards[case.name])
        cpu, dtype = torch.device("cpu"), TYPES[case.precision]
        if case.name not in self.wanted:
            plain = prepared(self.weights_of(case.name), STEPS[BASELINE], cpu, torch.float32)
            x = clips(card, 2, cpu, torch.float32, STEPS[BASELINE])
            self.wanted[case.name] = run_of(plain, STEPS[BASELINE], x)(x)
        step = STEPS[case.step]
        x = clips(card, 2, self.device, dtype, step)
        found = run_of(model, replace(step, compiled=False), x)(x).cpu()
        wanted = self.wanted[case.name]
        return {
            "cosine": round(float(torch.cosine_similarity(found, wanted).min()), 7),
            "difference": float(f"{float((found - wanted).abs().max() / wanted.abs().max()):.1e}"),
        }

    def product(self, precision: str) -> float:
        """Return floating-point operations a second of a large matrix product."""
        if precision not in self.products:
            edge = 8192 if self.device.type == "cuda" else 1024
            a, b = (torch.randn(edge, edge, device=self.device, dtype=TYPES[precision]) for _ in range(2))
            self.products[precision] = 2 * edge**3 / seconds(lambda: a @ b, self.device, self.longest)
        return self.products[precision]

    def copies(self) -> dict[str, float]:
        """Return the speed of copies to the device from pinned memory and from other memory, in GB a second."""
        if self.device.type != "cuda":
            return {}
        found = {}
        for name, pinned in (("pinned", True), ("pageable", False)):
            pixels = torch.zeros(2**28, dtype=torch.uint8, pin_memory=pinned)
            there = torch.empty_like(pixels, device=self.device)
            took = seconds(partial(there.copy_, pixels, non_blocking=True), self.device, self.longest)
            found[name] = round(len(pixels) / took / 1e9, 1)
        return found

    def _streamed(self, case: Case) -> dict[str, object]:
        """Measure all steps with pixels from pinned memory: copied by a stream of their own, normalised on the GPU."""
        if self.device.type != "cuda":
            raise NotImplementedError("CUDA streams need a GPU")
        card, step, dtype, batch = self.cards[case.name], STEPS[ALL], TYPES[case.precision], case.batch
        mean, std = (
            torch.tensor(value, device=self.device).view(3, 1, 1, 1)
            for value in (card.preprocessing.mean, card.preprocessing.std)
        )
        model = prepared(self.weights_of(case.name), step, self.device, dtype)

        def features(pixels: Tensor) -> Tensor:
            x = (pixels.permute(0, 4, 1, 2, 3).float() - mean) / std
            return model.forward_features(x.to(dtype)).float().mean((2, 3, 4))

        shape = (batch, card.frames or 8, *card.crop, 3)
        pinned = [torch.randint(0, 256, shape, dtype=torch.uint8).pin_memory() for _ in range(2)]
        there = [each.to(self.device) for each in pinned]
        recorded = Recorded(features, there[0])
        computing = torch.cuda.current_stream(self.device)
        copying = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        free = [torch.cuda.Event() for _ in there]  # type: ignore[no-untyped-call]

        def work() -> None:
            for index in range(10):
                place = index % 2
                with torch.cuda.stream(copying):
                    copying.wait_event(free[place])
                    there[place].copy_(pinned[place], non_blocking=True)
                computing.wait_stream(copying)
                recorded(there[place])
                free[place].record(computing)

        return {"clips_a_second": round(10 * batch / seconds(work, self.device, self.longest), 2)}

    def profile(self, name: str, precision: str) -> list[dict[str, object]]:
        """Return the slowest kernels of a batch, with their shares of the time; or the error."""
        try:
            return self._profiled(name, precision)
        except RuntimeError as error:
            return [{"name": name, "precision": precision, "error": str(error).splitlines()[0][:160]}]

    def _profiled(self, name: str, precision: str) -> list[dict[str, object]]:
        """Profile all steps but the graph."""
        step, batch = STEPS["2-D, padded, fused"], BATCHES[0] if self.device.type == "cuda" else 1
        model = prepared(self.weights_of(name), step, self.device, TYPES[precision])
        x = clips(self.cards[name], batch, self.device, TYPES[precision], step)
        run = run_of(model, step, x)
        run(x)
        on_gpu = self.device.type == "cuda"
        activity = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
        with torch.profiler.profile(activities=[activity]) as found:
            run(x)
            synchronise(self.device)
        times = [
            (each.key, each.self_device_time_total if on_gpu else each.self_cpu_time_total) for each in found.key_averages()
        ]
        whole = sum(took for _, took in times)
        slowest = sorted(times, key=lambda pair: -pair[1])[:KERNELS]
        return [
            {
                "name": name,
                "precision": precision,
                "kernel": key[:110],
                "ms": round(took / 1000, 3),
                "share": round(took / whole, 3),
            }
            for key, took in slowest
        ]


def small(card: Card) -> Card:
    """Return a card for clips of 8 frames of 64x64."""
    return replace(card, frames=8, preprocessing=replace(card.preprocessing, crop=(64, 64)))


def cases(names: Sequence[str], precisions: Sequence[str], batches: Sequence[int], steps: Sequence[str]) -> Iterator[Case]:
    """Yield what is measured, the most important first."""
    ordered = [
        *((name, BASELINE, "fp32", batches[0]) for name in names),
        *((name, ALL, precision, batches[0]) for name in names for precision in precisions),
        *((name, STREAMED, precisions[0], batches[0]) for name in names),
        *((name, ALL, precision, batch) for batch in batches[1:] for name in names for precision in precisions),
        *((name, step, precision, batches[0]) for precision in precisions for name in names for step in steps),
    ]
    for values in dict.fromkeys(ordered):
        yield Case(*values)


def table(rows: list[dict[str, object]]) -> None:
    """Print rows as a Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(column, '')) for column in columns)} |")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small networks and clips, in seconds")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which nothing new is measured")
    options = parser.parse_args()
    device = find_device(options.device)
    names = SMALL_NETWORKS if options.small else NETWORKS
    cards = {name: small(find_card(name)) if options.small else find_card(name) for name in names}
    bench = Bench(device, cards, 0.1 if options.small else LONGEST, options.limit)
    # Many processors emulate the others, a hundred times as slowly.
    precisions = ("fp16", "fp32", "bf16") if device.type == "cuda" else ("fp32",)
    steps = [name for name, step in STEPS.items() if options.compile or not step.compiled]
    kernels: list[dict[str, object]] = []
    with torch.inference_mode(), exact(device):
        copies = bench.copies()
        for case in cases(names, precisions, BATCHES[:1] if options.small else BATCHES, steps):
            bench.measure(case)
        for name in names:
            kernels += bench.profile(name, precisions[0])
    table(bench.rows)
    table(kernels)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    facts = {
        "device": card,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    print()
    products = {precision: round(speed / 1e12, 2) for precision, speed in bench.products.items()}
    print(json.dumps({"bench": "gpu", "matrix_product_tflops": products, "copy_gb_a_second": copies, **facts}))
    for row in (*bench.rows, *kernels):
        print(json.dumps({"bench": "gpu", "device": card, **row}))


if __name__ == "__main__":
    main()

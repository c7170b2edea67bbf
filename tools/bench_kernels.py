"""What `slt-bench kernels` measures: conv2d and linear of single layers in every kernel that runs them, held
against what the machine can do at most (docs/runtime.md defines bytes and bounds) and against a dense
product of the same shape in another engine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slt_infer import _core
from slt_infer.codec import core_layer
from slt_infer.codec.masks import INDEX_ENTRY
from slt_infer.errors import SltError
from slt_infer.ticket import Layer
from slt_infer.tools import bench_networks, bench_peers, kernel_peers
from slt_infer.tools.kernel_shapes import SOURCE, Shape, layer_of, multiplier

Row = dict[str, Any]
Run = Callable[[], object]

# What ResNet-18 and ResNet-50 have, at 224x224 and at 32x32; then kernels 5x5, groups, depthwise.
SHAPES = (
    "3x224x224-64-7/2",
    "64x56x56-64-1",
    "64x56x56-256-1",
    "256x56x56-64-1",
    "256x56x56-512-1/2",
    "1024x14x14-256-1",
    "512x7x7-2048-1",
    "64x56x56-64-3",
    "128x28x28-128-3",
    "256x14x14-256-3",
    "512x7x7-512-3",
    "64x56x56-128-3/2",
    "256x14x14-512-3/2",
    "64x32x32-64-3",
    "256x8x8-256-3",
    "512x4x4-512-3",
    "64x28x28-64-5",
    "128x28x28-128-3g32",
    "128x28x28-128-3g128",
    "512-1000",
    "2048-1000",
    "784-300",
)
DENSITIES = (0.03, 0.1, 0.3, 0.5, 1.0)
OPS, TYPES, MODES = ("conv2d", "linear"), ("f32", "int8"), ("stream", "resident")
SAMPLE = 2e-4  # seconds that a sample takes at least: short calls are repeated within it
SIZE = {"f32": 4, "int8": 1}  # bytes of an activation


@dataclass(frozen=True)
class Kernel:
    """One way to run a layer. keep: the form of the weights; dot: by dot products instead of additions."""

    op: str
    mode: str
    name: str
    keep: str
    dot: bool = False


KERNELS = (
    Kernel("conv2d", "stream", "planes", "none"),
    Kernel("conv2d", "resident", "lists", "lists"),
    Kernel("conv2d", "resident", "planes", "planes"),
    Kernel("conv2d", "stream", "dot", "none", dot=True),
    Kernel("conv2d", "resident", "dot", "planes", dot=True),
    Kernel("linear", "stream", "lanes", "none"),
    Kernel("linear", "resident", "lanes", "planes"),
    Kernel("linear", "stream", "dot", "none", dot=True),
    Kernel("linear", "resident", "dot", "planes", dot=True),
)


def bound(row: Row, peaks: Row, threads: int, dot: bool) -> Row:
    """What the row's operations and bytes take at least, in seconds, and which of them takes longer.

    Weights and activations that fit into the last-level cache are taken to come from the second level.
    """
    rate = peaks["dot"] if dot else peaks["add_load_f32" if row["type"] == "f32" else "add_load_i16"]
    far = row["bytes"] > last_level_bytes()
    seconds = {
        "dot" if dot else "add": row["operations"] / (rate * threads),
        "memory" if far else "l2": row["bytes"] / (peaks["memory"] if far else peaks["l2"] * threads),
    }
    name = max(seconds, key=lambda key: seconds[key])
    return {"bound": name, "bound_seconds": seconds[name]}


def last_level_bytes() -> int:
    """Of the largest cache that Linux tells of; 32 MiB where none is known."""
    sizes = [
        path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    return max((int(size[:-1]) << (10 * " KMG".index(size[-1])) for size in sizes), default=2**25)


class Case:
    """Everything that is run on one shape: ours at each density, and the dense peer of each type, which is
    compared with ours at the first.
    """

    def __init__(
        self,
        shape: Shape,
        densities: Sequence[float],
        types: Sequence[str],
        modes: Sequence[str],
        isas: Sequence[str],
        threads: int,
        peers: bool,
    ) -> None:
        self.shape, self.threads = shape, threads
        self.rows: list[Row] = []
        self.runs: list[Run] = []
        self.peers: dict[str, Run] = {}
        random = np.random.Generator(np.random.PCG64(0))
        image = (1, *shape.image) if shape.op == "conv2d" else (1, shape.image[0])
        for kind in types:
            x = _image(kind, random, image)
            for density in densities:
                layer = layer_of(shape, density)
                out = self._own(kind, layer, density, modes, isas, x)
                if peers and kind not in self.peers:
                    self.peers[kind], other = kernel_peers.dense(kind, shape, layer, x, threads)
                    kernel_peers.compare(kind, shape.name, out, other)

    def _own(
        self,
        kind: str,
        layer: Layer,
        density: float,
        modes: Sequence[str],
        isas: Sequence[str],
        x: np.ndarray,
    ) -> np.ndarray:
        """Adds a row and a run for each kernel; gives what they all computed, to the last bit."""
        shape, out = self.shape, np.empty(0)
        first: bytes | None = None
        for isa in isas:
            work = _core.Workspace(_core.WeightMemory(), self.threads, isa)
            for kernel in KERNELS:
                if kernel.op != shape.op or kernel.mode not in modes or (kernel.dot and kind == "f32"):
                    continue
                kept, resident, run, out = _bind(kind, kernel, shape, layer, work, x)
                if kernel.name == "lists" and kept != "lists":
                    continue  # over 2 bits a weight: the runtime keeps planes then
                coded = len(layer.code.payload) + INDEX_ENTRY * len(layer.code.free)
                kept_bytes = coded if kernel.mode == "stream" else resident
                row = {"op": shape.op, "shape": shape.name, "density": density, "type": kind}
                row |= {"mode": kernel.mode, "kernel": kernel.name, "isa": isa, "threads": self.threads}
                row |= {"macs": shape.macs, "additions": layer.kept * shape.pixels}
                row["operations"] = shape.macs if kernel.dot else row["additions"]
                row["bytes"] = kept_bytes + x.nbytes + out.size * SIZE[kind]
                run()
                first = first or out.tobytes()
                if out.tobytes() != first:
                    where = f"{shape.name}, {kind}, {kernel.name} on {isa}"
                    raise SltError("wrong-kernel", "computes other numbers than the kernels before it", where)
                self.rows.append(row)
                self.runs.append(run)
        return out

    def measure(self, seconds: float) -> list[Row]:
        """The rows with their times: rounds of all runs in turn, three at least."""
        runs = [*self.runs, *self.peers.values()]
        times = [_repeats(run) for run in runs]
        taken = bench_networks.rounds(
            [_repeated(run, n) for run, n in zip(runs, times, strict=True)], self.threads, seconds
        )
        seconds_of = [1e-3 * row["ms_median"] / n for row, n in zip(taken, times, strict=True)]
        least = [1e-3 * row["ms_min"] / n for row, n in zip(taken, times, strict=True)]
        of_peers = dict(zip(self.peers, seconds_of[len(self.runs) :], strict=True))
        for row, median, best, measured in zip(self.rows, seconds_of, least, taken, strict=False):
            row |= {"seconds": median, "seconds_min": best, "rounds": measured["rounds"]}
            row |= {"macs_per_s": row["macs"] / median, "adds_per_s": row["additions"] / median}
            peer = of_peers.get(row["type"])
            row["peer"] = kernel_peers.PEERS[row["type"]][-1] if peer else None
            row |= {"peer_seconds": peer, "ratio": median / peer if peer else None}
        return self.rows


def measure(
    shapes: Sequence[Shape],
    densities: Sequence[float],
    types: Sequence[str],
    modes: Sequence[str],
    isas: Sequence[str],
    threads: int,
    seconds: float,
    peers: bool = True,
) -> tuple[list[Row], list[Row]]:
    """peaks and results of the answer; `seconds` in all, three rounds at least of each shape.

    Raises SltError: `missing-peer`, `wrong-peer` where a peer computes something else, `wrong-kernel` where
    one of ours does.
    """
    for name in (name for kind in types if peers for name in kernel_peers.PEERS[kind]):
        bench_peers.module(name)
    peaks: dict[str, Row] = {}
    rows: list[Row] = []
    for shape in shapes:
        for isa in isas:
            peaks[isa] = highest(peaks.get(isa, {}), _core.peaks(isa))
        case = Case(shape, densities, types, modes, isas, threads, peers)
        rows += case.measure(seconds / len(shapes))
    for row in rows:
        row |= bound(row, peaks[row["isa"]], threads, row["kernel"] == "dot")
        row["share_of_bound"] = row["bound_seconds"] / row["seconds"]
    return list(peaks.values()), rows


def highest(peaks: Row, others: Row) -> Row:
    """The higher of each rate: one sample may have met other work on the machine."""
    return others | {name: max(rate, others[name]) for name, rate in peaks.items()}


def _bind(
    kind: str, kernel: Kernel, shape: Shape, layer: Layer, work: _core.Workspace, x: np.ndarray
) -> tuple[str, int, Run, np.ndarray]:
    """The form kept, its bytes, a call of the kernel and the array that it writes."""
    code = core_layer(SOURCE, shape.layer, 0, layer.freeze, layer.code)
    window = (shape.image, shape.layer.kernel, shape.layer.groups, shape.stride, shape.padding)
    size = (1, shape.layer.out, *(shape.size if shape.op == "conv2d" else ()))
    if kind == "f32":
        weights = _core.LayerWeights(code, kernel.keep, *window, work)
        out = np.empty(size, dtype=np.float32)
        scale = np.full(shape.layer.out, layer.constant, dtype=np.float32)
        call = weights.conv2d if shape.op == "conv2d" else weights.linear
        return weights.kept, weights.resident_bytes, lambda: call(work, x, out, scale), out
    m, s = multiplier(shape, layer)
    layer8 = _core.Int8Layer(code, kernel.keep, "dot" if kernel.dot else "add", *window, work)
    multipliers = np.full(shape.layer.out, m, dtype=np.int32)
    requantiser = _core.Requantiser(multipliers, np.zeros(shape.layer.out, dtype=np.int64), s)
    out = np.empty(size, dtype=np.int8)
    call8 = layer8.conv2d if shape.op == "conv2d" else layer8.linear
    return layer8.kept, layer8.resident_bytes, lambda: call8(work, x, out, requantiser), out


def _image(kind: str, random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    if kind == "f32":
        return random.standard_normal(size, dtype=np.float32)
    return random.integers(-127, 128, size, dtype=np.int8)


def _repeats(run: Run) -> int:
    """Calls that take SAMPLE together."""
    run()
    start = time.perf_counter()
    run()
    return max(1, math.ceil(SAMPLE / max(time.perf_counter() - start, 1e-7)))


def _repeated(run: Run, times: int) -> bench_peers.Engine:
    def engine() -> Any:
        for _ in range(times):
            run()

    return engine

"""What `slt-bench kernels` measures: conv2d and linear of single layers in every kernel that runs them, held
against what the machine can do at most (docs/runtime.md defines bytes and bounds) and against a dense
product of the same shape in another engine.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slt_infer import _core, reference
from slt_infer.codec import coded_layer, core_layer
from slt_infer.codec.masks import INDEX_ENTRY
from slt_infer.codec.tickets import synthetic_mask
from slt_infer.errors import SltError
from slt_infer.freeze import thresholds
from slt_infer.ticket import Layer, LayerShape, Source
from slt_infer.tools import bench_networks, bench_peers

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
PEERS = {"f32": ("torch",), "int8": ("onnx", "onnxruntime")}
# How far a peer's output may be from ours: of the largest number of f32; steps of int8, which round apart.
BOUNDS = {"f32": 1e-4, "int8": 1}
SOURCE = Source(seed=1)
SAMPLE = 2e-4  # seconds that a sample takes at least: short calls are repeated within it
SIZE = {"f32": 4, "int8": 1}  # bytes of an activation

_CONV = re.compile(r"(\d+)x(\d+)x(\d+)-(\d+)-(\d+)(?:/(\d+))?(?:g(\d+))?")
_LINEAR = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Shape:
    """A layer and the image, (channels, height, width), that it is given; (inputs, 1, 1) for linear."""

    name: str
    op: str
    image: tuple[int, int, int]
    layer: LayerShape
    stride: int = 1
    padding: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        rows, columns = (
            (n + 2 * self.padding - k) // self.stride + 1
            for n, k in zip(self.image[1:], self.layer.kernel, strict=True)
        )
        return rows, columns

    @property
    def pixels(self) -> int:
        return math.prod(self.size)

    @property
    def macs(self) -> int:
        return self.layer.weights * self.pixels


def shape_of(name: str) -> Shape:
    """The shape that CxHxW-OUT-KERNEL[/STRIDE][gGROUPS] or INPUTS-OUT names; padding is kernel // 2.

    Raises SltError (`bad-shape`) for another name, or numbers that fit no layer.
    """
    if form := _LINEAR.fullmatch(name):
        inputs, out = map(int, form.groups())
        shape = Shape(name, "linear", (inputs, 1, 1), LayerShape(name, out, inputs))
    elif form := _CONV.fullmatch(name):
        channels, height, width, out, kernel, stride, groups = (int(part or 1) for part in form.groups())
        if groups == 0 or channels % groups or out % groups or stride == 0:
            raise SltError("bad-shape", "groups must divide the channels, a stride is at least 1", name)
        layer = LayerShape(name, out, channels // groups, (kernel, kernel), groups)
        shape = Shape(name, "conv2d", (channels, height, width), layer, stride, kernel // 2)
    else:
        raise SltError("bad-shape", "is not CxHxW-OUT-KERNEL[/STRIDE][gGROUPS] or INPUTS-OUT", name)
    if min(shape.macs, shape.pixels, *shape.image) < 1 or shape.macs > 2**36:
        raise SltError("bad-shape", "has no output, or over 2^36 multiply-accumulates", name)
    return shape


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


def layer_of(shape: Shape, density: float) -> Layer:
    """A layer that keeps that share of its weights, none of them frozen; seeded."""
    freeze = thresholds([shape.layer], 0, 0)[0]
    weights = shape.layer.weights
    mask = synthetic_mask(SOURCE, 0, weights, round(density * weights))
    return coded_layer(SOURCE, shape.layer, 0, freeze, mask)


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
    """Everything that is run on one shape: ours at each density, and the dense peer of each type.

    Raises SltError: `unsupported` where the compiled module has no kernels of the type.
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
            first = True
            for density in densities:
                layer = layer_of(shape, density)
                out = self._own(kind, layer, density, modes, isas, x)
                if peers and first:
                    run, dense = _PEERS[kind](shape, layer, x, threads)
                    _compare(kind, shape.name, out, dense)
                    self.peers[kind] = run
                first = False

    def _own(
        self,
        kind: str,
        layer: Layer,
        density: float,
        modes: Sequence[str],
        isas: Sequence[str],
        x: np.ndarray,
    ) -> np.ndarray:
        """Adds a row and a run for each kernel; gives what they all computed."""
        shape, out = self.shape, np.empty(0)
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
                self.rows.append(row)
                self.runs.append(run)
        return out

    def measure(self, peaks: dict[str, Row], seconds: float) -> list[Row]:
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
            row |= bound(row, peaks[row["isa"]], self.threads, row["kernel"] == "dot")
            row["share_of_bound"] = row["bound_seconds"] / median
            peer = of_peers.get(row["type"])
            row["peer"] = PEERS[row["type"]][-1] if peer else None
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

    Raises SltError: `missing-peer`, `wrong-peer` where a peer computes something else, `unsupported`.
    """
    if "int8" in types and not hasattr(_core, "Int8Layer"):
        raise SltError("unsupported", "the compiled module has no int8 kernels", "--type int8")
    for name in (name for kind in types if peers for name in PEERS[kind]):
        bench_peers.module(name)
    peaks = {isa: _core.peaks(isa, 0.02) for isa in isas}
    rows: list[Row] = []
    for shape in shapes:
        case = Case(shape, densities, types, modes, isas, threads, peers)
        rows += case.measure(peaks, seconds / len(shapes))
    return list(peaks.values()), rows


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
    small: Any = _core  # the stub of a module without int8 kernels does not know these
    m, s = multiplier(shape, layer)
    layer8 = small.Int8Layer(code, kernel.keep, "dot" if kernel.dot else "add", *window, work)
    requantiser = small.Requantiser([m] * shape.layer.out, [0] * shape.layer.out, s)
    out = np.empty(size, dtype=np.int8)
    call8 = layer8.conv2d if shape.op == "conv2d" else layer8.linear
    return layer8.kept, layer8.resident_bytes, lambda: call8(work, x, out, requantiser), out


def multiplier(shape: Shape, layer: Layer) -> tuple[int, int]:
    """(m, s): m / 2^s brings the layer's sums of uniform int8 numbers to a standard deviation of about 30."""
    spread = 74 * math.sqrt(max(1.0, layer.kept / shape.layer.out))
    s = min(22, int(math.log2(32767 * spread / 30)))
    return round(30 / spread * 2**s), s


def _image(kind: str, random: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    if kind == "f32":
        return random.standard_normal(size, dtype=np.float32)
    return random.integers(-127, 128, size, dtype=np.int8)


def _dense(shape: Shape, layer: Layer) -> np.ndarray:
    """Weights as the peers lay them out, float32 [out, inputs, rows, columns] or [out, K]."""
    weights = reference.weights(SOURCE, layer)
    if shape.op == "linear":
        return weights
    return np.ascontiguousarray(
        weights.reshape(shape.layer.out, *shape.layer.kernel, shape.layer.inputs).transpose(0, 3, 1, 2)
    )


def _torch(shape: Shape, layer: Layer, x: np.ndarray, threads: int) -> tuple[Run, np.ndarray]:
    torch = bench_peers.module("torch")
    torch.set_num_threads(threads)
    image, weights = torch.from_numpy(x), torch.from_numpy(_dense(shape, layer))
    functions = torch.nn.functional

    def run() -> Any:
        with torch.inference_mode():
            if shape.op == "linear":
                return functions.linear(image, weights)
            return functions.conv2d(image, weights, None, shape.stride, shape.padding, 1, shape.layer.groups)

    return run, run().numpy()


def _onnxruntime(shape: Shape, layer: Layer, x: np.ndarray, threads: int) -> tuple[Run, np.ndarray]:
    """One QLinearConv or QLinearMatMul, unsigned 8-bit activations with zero point 128 in and out."""
    onnx = bench_peers.module("onnx")
    make, tensor = onnx.helper, onnx.numpy_helper.from_array
    weights = np.sign(_dense(shape, layer)).astype(np.int8)
    m, s = multiplier(shape, layer)
    one, zero = np.float32(1), np.uint8(128)
    scales, zeros = np.full(shape.layer.out, m / 2**s, np.float32), np.zeros(shape.layer.out, np.int8)
    constants = {"one": one, "zero": zero, "scales": scales, "zeros": zeros}
    names = ["x", "one", "zero", "w", "scales", "zeros", "one", "zero"]
    if shape.op == "conv2d":
        pads, strides = [shape.padding] * 4, [shape.stride] * 2
        node = make.make_node(
            "QLinearConv",
            names,
            ["y"],
            group=shape.layer.groups,
            kernel_shape=shape.layer.kernel,
            pads=pads,
            strides=strides,
        )
        size: tuple[int, ...] = (1, shape.layer.out, *shape.size)
    else:
        weights, size = np.ascontiguousarray(weights.T), (1, shape.layer.out)
        node = make.make_node("QLinearMatMul", names, ["y"])
    ends = [
        make.make_tensor_value_info(name, onnx.TensorProto.UINT8, list(shape_))
        for name, shape_ in (("x", x.shape), ("y", size))
    ]
    values = [tensor(np.asarray(value), name) for name, value in {"w": weights, **constants}.items()]
    graph = make.make_graph([node], "layer", ends[:1], ends[1:], values)
    opset = [make.make_opsetid("", bench_peers.OPSET)]
    model = make.make_model(graph, opset_imports=opset, ir_version=bench_peers.IR).SerializeToString()
    runtime = bench_peers.module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = (x.astype(np.int16) + 128).astype(np.uint8)

    def run() -> Any:
        return session.run(None, {"x": image})[0]

    return run, run().astype(np.int16) - 128


_PEERS = {"f32": _torch, "int8": _onnxruntime}


def _compare(kind: str, where: str, own: np.ndarray, dense: np.ndarray) -> None:
    error = float(np.abs(own.astype(np.float64) - dense).max())
    if kind == "f32":
        error /= float(np.abs(own).max()) or 1.0
    if not error <= BOUNDS[kind]:
        peer = PEERS[kind][-1]
        raise SltError("wrong-peer", f"{peer} differs by {error:.3g}, over {BOUNDS[kind]:g}", where)


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

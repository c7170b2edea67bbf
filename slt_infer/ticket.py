"""The objects that the parts of the program exchange: the graph of a network, and a ticket in it.

Everything here is plain data. `Network` is the graph with the shapes of its weight tensors; `Ticket` adds
what makes it a strong lottery ticket: the random source, each layer's freeze thresholds, the mask of its free
weights and its folded per-channel affine. docs/format.md gives every rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from slt_infer.errors import TicketError

ROUNDS = {"philox4x32": (10, 7), "threefry4x32": (20, 13, 12)}
MAX_ELEMENTS = 2**28  # of any value of the graph
BLOCK = 128  # positions per generator call; rows are padded to a multiple of it

Size = Annotated[int, Meta(ge=1, le=2**20)]
Window = Annotated[int, Meta(ge=1, le=64)]
Padding = Annotated[int, Meta(ge=0, le=64)]
Index = Annotated[int, Meta(ge=0, le=2**14)]
Name = Annotated[str, Meta(max_length=256)]
FreezeLaw = Literal["bernoulli", "mixed"]


class _Node(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Reads earlier values of the graph: 0 is the image, node i makes value i + 1."""


class Conv2d(_Node, frozen=True, tag="conv2d"):
    value: Index
    layer: Index
    stride: Window = 1
    padding: Padding = 0


class Linear(_Node, frozen=True, tag="linear"):
    value: Index
    layer: Index


class Relu(_Node, frozen=True, tag="relu"):
    value: Index


class Add(_Node, frozen=True, tag="add"):
    left: Index
    right: Index


class MaxPool2d(_Node, frozen=True, tag="max_pool2d"):
    value: Index
    kernel: Window
    stride: Window
    padding: Padding = 0


class AvgPool2d(_Node, frozen=True, tag="avg_pool2d"):
    value: Index
    kernel: Window
    stride: Window
    padding: Padding = 0


class GlobalAvgPool2d(_Node, frozen=True, tag="global_avg_pool2d"):
    value: Index


class Flatten(_Node, frozen=True, tag="flatten"):
    value: Index


Node = Conv2d | Linear | Relu | Add | MaxPool2d | AvgPool2d | GlobalAvgPool2d | Flatten


def inputs_of(node: Node) -> tuple[int, ...]:
    """The values that a node reads."""
    return (node.left, node.right) if isinstance(node, Add) else (node.value,)


class LayerShape(Struct, frozen=True):
    """One weight tensor: a matrix of `out` rows and `fan_in` columns (docs/format.md, section 2)."""

    name: str
    out: int
    inputs: int  # input channels of one group
    kernel: tuple[int, int] = (1, 1)
    groups: int = 1
    affine: bool = False  # a (batch norm) affine of its own per output channel follows

    @property
    def fan_in(self) -> int:
        return self.inputs * self.kernel[0] * self.kernel[1]

    @property
    def weights(self) -> int:
        return self.out * self.fan_in

    @property
    def row_positions(self) -> int:
        """Positions of a row, padding included: a multiple of 128."""
        return -(-self.fan_in // BLOCK) * BLOCK


@dataclass(frozen=True)
class Network:
    """A graph: `input` is (channels, height, width); `nodes` may only read earlier values."""

    name: str
    input: tuple[int, int, int]
    layers: tuple[LayerShape, ...]
    nodes: tuple[Node, ...]

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def classes(self) -> int:
        return math.prod(self.shapes()[-1])

    @cached_property
    def joined(self) -> Mapping[int, int]:
        """By the value that an add gives: its operand that is joined to it, so that in int8 a layer's sums
        and the residual are rounded once (docs/numerics.md, section 6).
        """
        readers: dict[int, int] = {}
        for node in self.nodes:
            for value in set(inputs_of(node)):
                readers[value] = readers.get(value, 0) + 1
        found = {}
        for value, node in enumerate(self.nodes, 1):
            if isinstance(node, Add) and node.left != node.right:
                later = max(node.left, node.right)
                is_layer = later > 0 and isinstance(self.nodes[later - 1], Conv2d | Linear)
                if is_layer and readers[later] == 1:
                    found[value] = later
        return MappingProxyType(found)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of every value for one image: (C, H, W) or (features,). Value 0 is the image.

        Raises TicketError (code `bad-graph`) where a node cannot read what it is given.
        """
        return self._shapes

    @cached_property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        shapes: list[tuple[int, ...]] = []

        def give(shape: tuple[int, ...], where: str) -> None:
            if math.prod(shape) > MAX_ELEMENTS:
                raise TicketError("limit", f"gives {math.prod(shape)} elements, over 2^28", where)
            shapes.append(shape)

        give(tuple(self.input), "input")
        used = [0] * len(self.layers)
        for number, node in enumerate(self.nodes):
            where = f"node {number} ({node.__struct_config__.tag})"
            for value in inputs_of(node):
                if value > number:
                    raise TicketError("bad-graph", f"reads value {value}, not made yet", where)
            give(_output_shape(node, shapes, self.layers, used, where), where)
        for layer, uses in zip(self.layers, used, strict=True):
            if uses != 1:
                raise TicketError("bad-graph", f"used by {uses} nodes instead of one", f"layer {layer.name}")
        if len(shapes) < 2 or len(shapes[-1]) != 1:
            raise TicketError("bad-graph", "the last node must give one flat vector per image", "graph")
        return tuple(shapes)

    def macs(self) -> list[int]:
        """Multiply-accumulates of each layer for one image, were it dense."""
        shapes, macs = self.shapes(), [0] * len(self.layers)
        for node, shape in zip(self.nodes, shapes[1:], strict=True):
            if isinstance(node, Conv2d):
                macs[node.layer] = self.layers[node.layer].weights * shape[1] * shape[2]
            elif isinstance(node, Linear):
                macs[node.layer] = self.layers[node.layer].weights
        return macs


def _output_shape(
    node: Node, shapes: list[tuple[int, ...]], layers: tuple[LayerShape, ...], used: list[int], where: str
) -> tuple[int, ...]:
    given = [shapes[value] for value in inputs_of(node)]
    shape = given[0]

    def refuse(message: str) -> TicketError:
        return TicketError("bad-graph", message, where)

    def layer_of(index: int) -> LayerShape:
        if index >= len(layers):
            raise refuse(f"names layer {index} of {len(layers)}")
        used[index] += 1
        return layers[index]

    def windows(kernel: tuple[int, int], stride: int, padding: int) -> tuple[int, int]:
        if len(shape) != 3:
            raise refuse(f"wants an image, is given shape {shape}")
        rows, columns = ((n + 2 * padding - k) // stride + 1 for n, k in zip(shape[1:], kernel, strict=True))
        if rows < 1 or columns < 1:
            raise refuse(f"kernel {kernel} does not fit into {shape[1]}x{shape[2]} with padding {padding}")
        return rows, columns

    if isinstance(node, Conv2d):
        layer = layer_of(node.layer)
        size = windows(layer.kernel, node.stride, node.padding)
        if layer.inputs * layer.groups != shape[0]:
            raise refuse(
                f"layer {layer.name} reads {layer.inputs * layer.groups} channels, is given {shape[0]}"
            )
        return (layer.out, *size)
    if isinstance(node, Linear):
        layer = layer_of(node.layer)
        if layer.kernel != (1, 1) or layer.groups != 1 or shape != (layer.inputs,):
            raise refuse(f"layer {layer.name} reads ({layer.inputs},) in one group, is given {shape}")
        return (layer.out,)
    if isinstance(node, Add):
        if given[0] != given[1]:
            raise refuse(f"cannot add {given[0]} and {given[1]}")
        return shape
    if isinstance(node, MaxPool2d | AvgPool2d):
        if node.padding > node.kernel // 2:
            raise refuse(f"padding {node.padding} is over half the kernel {node.kernel}")
        return (shape[0], *windows((node.kernel, node.kernel), node.stride, node.padding))
    if isinstance(node, GlobalAvgPool2d):
        windows((1, 1), 1, 0)
        return (shape[0],)
    if isinstance(node, Flatten):
        return (math.prod(shape),)
    return shape


class Source(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where every random bit comes from (docs/format.md, section 1)."""

    generator: Literal["philox4x32", "threefry4x32"] = "philox4x32"
    rounds: int = 10
    seed: Annotated[int, Meta(ge=0)] = 0  # below 2^64; msgspec cannot state that bound
    freeze: FreezeLaw = "bernoulli"  # law of the freeze pattern
    value: Name = "constant"  # law of the weights' magnitudes: no other yet
    score: Name = "uniform"  # law of the initial scores: no other yet

    @classmethod
    def named(cls, generator: str, seed: int, freeze: FreezeLaw = "bernoulli") -> Source:
        """From a name with or without rounds, `philox4x32` or `threefry4x32-13`; TicketError for any
        other.
        """
        name, _, rounds = generator.partition("-")
        known = [f"{name}-{r}" for name, allowed in ROUNDS.items() for r in allowed]
        if name not in ROUNDS or f"{name}-{rounds or ROUNDS[name][0]}" not in known:
            raise TicketError(
                "bad-value", f"unknown generator {generator!r}; known: {', '.join(known)}", "generator"
            )
        source = cls(name, int(rounds or ROUNDS[name][0]), seed, freeze)  # type: ignore[arg-type]
        source.check()
        return source

    def check(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise TicketError("bad-value", f"seed {self.seed} is not in [0, 2^64)", "source")
        if self.rounds not in ROUNDS[self.generator]:
            allowed = ", ".join(map(str, ROUNDS[self.generator]))
            raise TicketError(
                "bad-value", f"{self.generator} with {self.rounds} rounds; allowed: {allowed}", "source"
            )
        for what, law, known in (("value", self.value, "constant"), ("score", self.score, "uniform")):
            if law != known:
                message = f"the {what} law {law!r}; this program knows {known!r} only"
                raise TicketError("unsupported", message, "source")


class Freeze(Struct, frozen=True):
    """Thresholds on a `bits`-bit number u per position: pruned if u < prune, locked if u >= 2^bits - lock."""

    bits: int = 0
    prune: int = 0
    lock: int = 0


class Preprocessing(Struct, frozen=True):
    """How 8-bit images become the network's input: (v / 255 - mean) / std in float32, per channel."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: Literal["exact", "stretch", "crop"] = "exact"
    classes: tuple[str, ...] = ()


class Quantisation(Struct, frozen=True):
    """int8 (docs/numerics.md, section 6): codes of the scales, one per value that has one, in value order.

    pow2: every scale is a power of two, and so is every multiplier; slt_infer/quantise.py makes them.
    """

    codes: tuple[int, ...]
    pow2: bool = False


NOTHING: Mapping[str, int] = MappingProxyType({})  # one for all: a file may have thousands of streams


@dataclass(frozen=True, slots=True)
class MaskCode:
    """A stream of a layer's mask bits as it stands in the file (docs/format.md, section 4): tiles of
    `tile_rows` rows.

    free and words: uint32 per tile (both empty for `const`), its bits and what they are coded in; words has
    bit 31 set for a raw tile of a `static` or `prior` stream. planes, sign and intervals: for `prior` alone;
    pairs (start, f of 4096).
    candidates: bytes in each mode that the writer tried, or of `static` those that it takes at least, where
    that showed that it cannot win; not part of the file.
    """

    mode: Literal["const", "raw", "static", "prior"]
    density: int
    tile_rows: int
    free: np.ndarray
    words: np.ndarray
    payload: bytes
    planes: int = 0
    sign: bool = False
    intervals: tuple[tuple[int, int], ...] = ()
    candidates: Mapping[str, int] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a ticket; slt_infer.codec.coded_layer makes one from a mask.

    code: the mask, coded; `mask` decodes it at every use, so a ticket holds at most the file's few bits a
    weight. coats and flips: a bit per set bit of the mask, or of the coat before; decode(code, bits) gives
    the uint32 words of any of them, of so many bits. Layers with one id share all of this. affine: float32
    [2, out], scales then shifts of the sum of +-1 weights, as the file gives them, or None where
    shape.affine is False. affine_bits: of each in the file, 8, 16 or 32; 0 without affine.
    """

    shape: LayerShape
    id: int
    freeze: Freeze
    code: MaskCode
    pruned: int
    locked: int
    free: int
    kept: int  # locked + set mask bits
    decode: Callable[[MaskCode, int], np.ndarray] = field(repr=False, compare=False)
    affine: np.ndarray | None = None
    affine_bits: int = 0
    coats: tuple[MaskCode, ...] = ()  # after the first, which is the mask
    flips: MaskCode | None = None

    @property
    def mask(self) -> np.ndarray:
        """Mask bit of free ordinal o: bit o mod 32 of uint32 word o div 32; unused bits are 0."""
        return self.decode(self.code, self.free)

    @property
    def streams(self) -> tuple[MaskCode, ...]:
        """In the order of the file."""
        return (self.code, *self.coats, *(() if self.flips is None else (self.flips,)))

    @property
    def constant(self) -> np.float32:
        """c of docs/format.md, section 2: the magnitude of every kept weight."""
        shape = self.shape
        return np.float32(math.sqrt(2.0 / shape.fan_in) / math.sqrt(self.kept / shape.weights))


@dataclass(frozen=True)
class Ticket:
    """A strong lottery ticket: all that is needed to run the network it is.

    layers: task 0's. others: those of further tasks, networks of the same graph and source; the counts below
    are of task 0. A shared layer, one with the id of an earlier layer, is counted once. quantisation: what
    int8 needs, or None; a ticket of several tasks has none.
    """

    network: Network
    source: Source
    layers: tuple[Layer, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    provenance: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[Layer, ...], ...] = ()
    quantisation: Quantisation | None = None

    def __repr__(self) -> str:
        return f"<Ticket {self.network.name}, {self.weights} weights, {self.kept} kept, {self.source}>"

    @property
    def tasks(self) -> tuple[tuple[Layer, ...], ...]:
        return (self.layers, *self.others)

    def task(self, index: int) -> Ticket:
        """The ticket of one task. Raises TicketError (code `bad-task`) where there is none."""
        if not 0 <= index < len(self.tasks):
            raise TicketError(
                "bad-task", f"no task {index}: it holds {len(self.tasks)}, numbered from 0", "task"
            )
        quantisation = None if self.others else self.quantisation
        return replace(self, layers=self.tasks[index], others=(), quantisation=quantisation)

    @property
    def distinct(self) -> tuple[Layer, ...]:
        """The layers that are not shared."""
        return tuple({layer.id: layer for layer in reversed(self.layers)}.values())[::-1]

    @property
    def weights(self) -> int:
        return sum(layer.shape.weights for layer in self.distinct)

    @property
    def free(self) -> int:
        return sum(layer.free for layer in self.distinct)

    @property
    def kept(self) -> int:
        return sum(layer.kept for layer in self.distinct)

    @property
    def density(self) -> float:
        """Share of the weights that are kept; sparsity is 1 - density."""
        return self.kept / self.weights


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """Booleans [n] to uint32 words, bit o mod 32 of word o div 32."""
    packed = np.packbits(np.asarray(bits, dtype=bool), bitorder="little")
    return np.pad(packed, (0, -len(packed) % 4)).view("<u4").astype(np.uint32, copy=False)


def unpack_bits(words: np.ndarray, count: int) -> np.ndarray:
    """The inverse of pack_bits: booleans [count]."""
    octets = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    return np.unpackbits(octets, bitorder="little", count=count).astype(bool)


def fold_batch_norm(
    constant: float, mean: np.ndarray, variance: np.ndarray, epsilon: float = 1e-5
) -> np.ndarray:
    """Affine float32 [2, out] of a sum of +-1 weights from the statistics [out] of constant * sum.

    scale = constant / sqrt(variance + epsilon), shift = -mean / sqrt(variance + epsilon), in float64,
    rounded once.
    """
    deviation = np.sqrt(np.asarray(variance, dtype=np.float64) + epsilon)
    return np.stack([float(constant) / deviation, -np.asarray(mean, np.float64) / deviation]).astype(
        np.float32
    )

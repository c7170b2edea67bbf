"""What a network asks of a machine: its layers with the work that is folded into them, and its values.

Relu, pooling, flattening and the add of a residual are done on a layer's results as they leave the array,
where nothing else reads what lies between; all else is refused with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from slt_infer.format.sizes import affine_bytes
from slt_infer.hw.description import HardwareError
from slt_infer.hw.masks import Mask, mask_of
from slt_infer.ticket import Conv2d, Flatten, Linear, Network, Ticket, inputs_of

MOST_LAYERS = 4096
MOST_SIDE = 2**20  # channels, rows, columns, …
MOST_AREA = 2**26  # pixels, weights of a row


@dataclass(frozen=True)
class Work:
    """A convolution or a linear layer (1 x 1 on one pixel) of one image.

    inputs: channels of one group. height, width: of the input; out_height, out_width: of the convolution's
    output. stored: elements that are kept for later layers, after pooling. value, residual: what it reads,
    as numbers of Workload.elements; result: what it makes.
    """

    name: str
    inputs: int
    out: int
    kernel: tuple[int, int]
    stride: int
    padding: int
    groups: int
    height: int
    width: int
    out_height: int
    out_width: int
    stored: int
    value: int
    result: int
    residual: int | None = None
    affine_bytes: int = 0
    mask: Mask | None = None

    @cached_property
    def fan_in(self) -> int:
        return self.inputs * self.kernel[0] * self.kernel[1]

    @cached_property
    def weights(self) -> int:
        return self.out * self.fan_in

    @cached_property
    def pixels(self) -> int:
        return self.out_height * self.out_width

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates, were it dense."""
        return self.weights * self.pixels

    @property
    def kept_macs(self) -> int:
        return self.macs if self.mask is None else self.mask.kept * self.pixels


@dataclass(frozen=True)
class Workload:
    """Layers in order. elements: of each value; 0 is the image, value i + 1 what layer i stores.

    last_use: the layer that reads a value last (len(layers) for the answer). generator: of the ticket, with
    its rounds; None for a network without a ticket.
    """

    name: str
    layers: tuple[Work, ...]
    elements: tuple[int, ...]
    last_use: tuple[int, ...]
    generator: tuple[str, int] | None = None

    @property
    def macs(self) -> int:
        return sum(work.macs for work in self.layers)

    @property
    def weights(self) -> int:
        return sum(work.weights for work in self.layers)


def workload_of(ticket: Ticket) -> Workload:
    """The work of a ticket's first task, with its real densities and coded bytes.

    Shared layers are fetched again where they are used again. Raises HardwareError (`unsupported`) for a
    graph whose nodes cannot be folded into its layers.
    """
    bare = workload_of_network(ticket.network)
    layers = []
    for work, layer in zip(bare.layers, ticket.layers, strict=True):
        affine = affine_bytes(layer.shape.out, layer.affine_bits, 1)
        layers.append(replace(work, affine_bytes=affine, mask=mask_of(ticket.source, layer)))
    return replace(bare, layers=tuple(layers), generator=(ticket.source.generator, ticket.source.rounds))


def workload_of_network(network: Network) -> Workload:
    """The work of a network of which shapes alone are known: for schemes that store weights."""
    shapes = network.shapes()
    nodes = []
    for number, node in enumerate(network.nodes):
        made = shapes[number + 1]
        work = None
        if isinstance(node, Conv2d | Linear):
            work = _work(network, node, shapes[node.value], made)
        where = f"node {number} ({node.__struct_config__.tag})"
        nodes.append(Step(inputs_of(node), math.prod(made), work, isinstance(node, Flatten), where))
    return folded(network.name, math.prod(network.input), nodes)


@dataclass(frozen=True)
class Step:
    """A node of a graph in forward order; step i makes value i + 1, value 0 is the image.

    reads: values, two of them for the add of a residual. elements: of what it makes. work: of a layer,
    whose value, result and residual are not known yet. renames: it does nothing to the numbers.
    """

    reads: tuple[int, ...]
    elements: int
    work: Work | None
    renames: bool
    where: str


def folded(name: str, image: int, steps: Sequence[Step]) -> Workload:
    """A workload of a graph's layers, all else done on their results. Raises HardwareError (`unsupported`)
    for a node where that cannot be.
    """
    readers = [0] * (len(steps) + 1)
    for step in steps:
        for value in step.reads:
            readers[value] += 1
    done: list[Work] = []
    made_by = {0: 0}  # value of the graph -> value of the workload
    ends: dict[int, int] = {}  # value of the graph that nothing else reads -> layer whose results it is
    for number, step in enumerate(steps):
        result = number + 1
        if step.work:
            done.append(replace(step.work, value=made_by[step.reads[0]], result=len(done) + 1))
            layer = len(done) - 1
        else:
            alone = [value for value in step.reads if value in ends]
            if not alone and step.renames:
                made_by[result] = made_by[step.reads[0]]
                continue
            if not alone:
                raise HardwareError(
                    "unsupported",
                    "reads a value that is the image or that other nodes read too, so it cannot be done on a "
                    "layer's results: the model has no unit for it",
                    step.where,
                )
            value = max(alone, key=lambda value: ends[value])
            layer = ends[value]
            work = replace(done[layer], stored=step.elements)
            if len(step.reads) == 2:
                left, right = step.reads
                work = replace(work, residual=made_by[left if value == right else right])
            done[layer] = work
        made_by[result] = layer + 1
        if readers[result] == 1:
            ends[result] = layer
    return finished(name, done, image)


def finished(name: str, layers: Sequence[Work], image: int) -> Workload:
    """A workload whose values' sizes and last uses follow from its layers. Raises HardwareError (`limit`)
    for sizes that no network has: time grows with them.
    """
    if len(layers) > MOST_LAYERS:
        raise HardwareError("limit", f"has {len(layers)} layers, over {MOST_LAYERS}", name)
    for work in layers:
        side = max(work.inputs, work.out, *work.kernel, work.stride, work.padding, work.height, work.width)
        area = max(work.fan_in, work.height * work.width, work.pixels)
        for size, most in ((side, MOST_SIDE), (area, MOST_AREA)):
            if size > most:
                raise HardwareError("limit", f"a size of {size} is over {most}", f"{name}, layer {work.name}")
    last = [0] * (len(layers) + 1)
    for number, work in enumerate(layers):
        for value in (work.value, work.residual):
            if value is not None:
                last[value] = max(last[value], number)
    last[-1] = len(layers)
    return Workload(name, tuple(layers), (image, *(work.stored for work in layers)), tuple(last))


def _work(network: Network, node: Conv2d | Linear, given: tuple[int, ...], made: tuple[int, ...]) -> Work:
    layer = network.layers[node.layer]
    conv = node if isinstance(node, Conv2d) else None
    height, width = given[1:] if conv else (1, 1)
    out_height, out_width = made[1:] if conv else (1, 1)
    return Work(
        layer.name,
        layer.inputs,
        layer.out,
        layer.kernel,
        conv.stride if conv else 1,
        conv.padding if conv else 0,
        layer.groups,
        height,
        width,
        out_height,
        out_width,
        stored=math.prod(made),
        value=0,
        result=0,
    )

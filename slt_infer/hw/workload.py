"""What a network asks of a machine: its layers with the work that is folded into them, and its values.

Relu, pooling, flattening and the add of a residual are done on a layer's results as they leave the array,
where nothing else reads what lies between; all else is refused with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from slt_infer.format.sizes import affine_bytes
from slt_infer.hw.description import HardwareError
from slt_infer.hw.masks import Mask, mask_of
from slt_infer.ticket import Add, Conv2d, Flatten, Linear, Network, Ticket, inputs_of


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

    @property
    def fan_in(self) -> int:
        return self.inputs * self.kernel[0] * self.kernel[1]

    @property
    def weights(self) -> int:
        return self.out * self.fan_in

    @property
    def pixels(self) -> int:
        return self.out_height * self.out_width

    @property
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
    readers = [0] * len(shapes)
    for node in network.nodes:
        for value in inputs_of(node):
            readers[value] += 1
    done: list[Work] = []
    made_by = {0: 0}  # value of the graph -> value of the workload
    ends: dict[int, int] = {}  # value of the graph that nothing else reads -> layer whose results it is
    for number, node in enumerate(network.nodes):
        result = number + 1
        if isinstance(node, Conv2d | Linear):
            done.append(
                _work(network, node, shapes[node.value], shapes[result], made_by[node.value], len(done))
            )
            layer = len(done) - 1
        else:
            folded = [value for value in inputs_of(node) if value in ends]
            if not folded and isinstance(node, Flatten):
                made_by[result] = made_by[node.value]
                continue
            if not folded:
                raise HardwareError(
                    "unsupported",
                    "reads a value that is the image or that other nodes read too, so it cannot be done on a "
                    "layer's results: the model has no unit for it",
                    f"node {number} ({node.__struct_config__.tag})",
                )
            value = max(folded, key=lambda value: ends[value])
            layer = ends[value]
            work = replace(done[layer], stored=math.prod(shapes[result]))
            if isinstance(node, Add):
                work = replace(work, residual=made_by[node.left if value == node.right else node.right])
            done[layer] = work
        made_by[result] = layer + 1
        if readers[result] == 1:
            ends[result] = layer
    return finished(network.name, done, math.prod(network.input))


def finished(name: str, layers: Sequence[Work], image: int) -> Workload:
    """A workload whose values' sizes and last uses follow from its layers."""
    last = [0] * (len(layers) + 1)
    for number, work in enumerate(layers):
        for value in (work.value, work.residual):
            if value is not None:
                last[value] = max(last[value], number)
    last[-1] = len(layers)
    return Workload(name, tuple(layers), (image, *(work.stored for work in layers)), tuple(last))


def _work(
    network: Network,
    node: Conv2d | Linear,
    given: tuple[int, ...],
    made: tuple[int, ...],
    value: int,
    index: int,
) -> Work:
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
        value=value,
        result=index + 1,
    )

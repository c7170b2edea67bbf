"""The order of work of a graph: which nodes are one step, and where each value lies in the arena."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from slt_infer.ticket import Add, Conv2d, Flatten, Linear, Network, Node, Relu, inputs_of

ALIGN = 64  # bytes: places in the arena begin at whole vectors
NONE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """One node, or a conv2d, linear or add with the relu behind it: reads `inputs`, writes `output`.

    In int8 a conv2d or linear may have the add behind it too: then inputs[1] is what is added, the residual.
    """

    node: Node
    inputs: tuple[int, ...]
    output: int
    relu: bool = False


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and the arena, whose size is `arena` elements per image. Nodes that the output, the
    value of the last one, does not depend on have no step.

    place[v] is value v's offset in elements per image. Values that a fused relu or add replaces have none,
    and a flattened value has the place of what it flattens.
    """

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    place: dict[int, int]
    arena: int


def schedule(network: Network, element_bytes: int = 4, joined: Mapping[int, int] = NONE) -> Schedule:
    """joined: of each add that is one step with a layer, the layer's value (`Network.joined`).

    Raises TicketError where the graph is none.
    """
    shapes = network.shapes()
    steps = _fuse(_wanted(network.nodes), joined)
    owner = _owners(steps)
    return Schedule(steps, shapes, *_places(steps, shapes, owner, ALIGN // element_bytes))


def _wanted(nodes: tuple[Node, ...]) -> dict[int, Node]:
    """By their values, in order, the last node and what it depends on."""
    wanted = {len(nodes)}
    for value in range(len(nodes), 0, -1):
        if value in wanted:
            wanted.update(inputs_of(nodes[value - 1]))
    return {value: node for value, node in enumerate(nodes, 1) if value in wanted}


def _fuse(nodes: dict[int, Node], joined: Mapping[int, int]) -> tuple[Step, ...]:
    uses = Counter(value for node in nodes.values() for value in inputs_of(node))
    steps: list[Step] = []
    made: dict[int, int] = {}  # value: its step

    def becomes_part(output: int, of: int, **changed: Any) -> None:
        """The step that gives the value `of`, which nobody else reads, gives `output` instead."""
        made[output] = made.pop(of)
        steps[made[output]] = replace(steps[made[output]], output=output, **changed)

    for output, node in nodes.items():
        if isinstance(node, Relu) and uses[node.value] == 1 and node.value in made:
            before = steps[made[node.value]]
            if isinstance(before.node, Conv2d | Linear | Add) and not before.relu:
                becomes_part(output, node.value, relu=True)
                continue
        if isinstance(node, Add) and output in joined:
            layer = joined[output]
            residual = node.left if layer == node.right else node.right  # made before the layer
            becomes_part(output, layer, inputs=(*steps[made[layer]].inputs, residual))
            continue
        made[output] = len(steps)
        steps.append(Step(node, inputs_of(node), output))
    return tuple(steps)


def _owners(steps: tuple[Step, ...]) -> dict[int, int]:
    """For each value the one whose memory it has: itself, or what flatten read."""
    owner = {0: 0}
    for step in steps:
        owner[step.output] = owner[step.inputs[0]] if isinstance(step.node, Flatten) else step.output
    return owner


def _places(
    steps: tuple[Step, ...], shapes: tuple[tuple[int, ...], ...], owner: dict[int, int], align: int
) -> tuple[dict[int, int], int]:
    """First fit into the gaps that values leave after their last use."""
    last = {owner[value]: i for i, step in enumerate(steps) for value in step.inputs}
    last[owner[len(shapes) - 1]] = len(steps)
    dying: defaultdict[int, list[int]] = defaultdict(list)  # step: the values that it is the last to read
    for value, i in last.items():
        dying[i].append(value)
    place: dict[int, int] = {}
    gaps = _Gaps()

    def size(value: int) -> int:
        return -(-math.prod(shapes[value]) // align) * align

    place[0] = gaps.take(size(0))
    for i, step in enumerate(steps):
        value = step.output
        place[value] = gaps.take(size(value)) if owner[value] == value else place[owner[value]]
        for dead in dying[i]:
            gaps.give(place[dead], size(dead))
    return place, gaps.arena


class _Gaps:
    """The free intervals of an arena without end: sorted, never empty, never adjoining."""

    def __init__(self) -> None:
        self.begins: list[int] = [0]
        self.ends: list[float] = [math.inf]
        self.arena = 0  # the end of all that was ever taken

    def take(self, size: int) -> int:
        """Begin of the first interval of that size."""
        pairs = enumerate(zip(self.begins, self.ends, strict=True))
        k = next(k for k, (begin, end) in pairs if end - begin >= size)
        begin = self.begins[k]
        if begin + size == self.ends[k]:
            del self.begins[k], self.ends[k]
        else:
            self.begins[k] += size
        self.arena = max(self.arena, begin + size)
        return begin

    def give(self, begin: int, size: int) -> None:
        end = begin + size
        k = bisect_left(self.begins, end)  # the gap behind: the last one has no end
        if self.begins[k] == end:
            self.begins[k] = begin
        else:
            self.begins.insert(k, begin)
            self.ends.insert(k, end)
        if k and self.ends[k - 1] == begin:
            del self.begins[k], self.ends[k - 1]

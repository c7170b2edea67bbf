"""The order of work of a graph: which relu is part of which step, and where each value lies in the arena."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from slt_infer.ticket import Add, Conv2d, Flatten, Linear, Network, Node, Relu, inputs_of

ALIGN = 16  # floats: places in the arena begin at whole vectors of 64 bytes


@dataclass(frozen=True)
class Step:
    """One node, or a conv2d, linear or add with the relu behind it: reads `inputs`, writes `output`."""

    node: Node
    inputs: tuple[int, ...]
    output: int
    relu: bool = False


@dataclass(frozen=True)
class Schedule:
    """Steps in order, and the arena, whose size is `arena` floats per image.

    place[v] is value v's offset in floats per image. Values that a fused relu replaces have none, and a
    flattened value has the place of what it flattens.
    """

    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    place: dict[int, int]
    arena: int


def schedule(network: Network) -> Schedule:
    """Raises TicketError where the graph is none."""
    shapes = tuple(network.shapes())
    steps = _fuse(network.nodes)
    owner = _owners(steps)
    return Schedule(steps, shapes, *_places(steps, shapes, owner))


def _fuse(nodes: tuple[Node, ...]) -> tuple[Step, ...]:
    uses = Counter(value for node in nodes for value in inputs_of(node))
    steps: list[Step] = []
    made: dict[int, int] = {}  # value: its step
    for number, node in enumerate(nodes):
        if isinstance(node, Relu) and uses[node.value] == 1 and node.value in made:
            before = steps[made[node.value]]
            if isinstance(before.node, Conv2d | Linear | Add) and not before.relu:
                steps[made[node.value]] = Step(before.node, before.inputs, number + 1, relu=True)
                made[number + 1] = made.pop(node.value)
                continue
        made[number + 1] = len(steps)
        steps.append(Step(node, inputs_of(node), number + 1))
    return tuple(steps)


def _owners(steps: tuple[Step, ...]) -> dict[int, int]:
    """For each value the one whose memory it has: itself, or what flatten read."""
    owner = {0: 0}
    for step in steps:
        owner[step.output] = owner[step.inputs[0]] if isinstance(step.node, Flatten) else step.output
    return owner


def _places(
    steps: tuple[Step, ...], shapes: tuple[tuple[int, ...], ...], owner: dict[int, int]
) -> tuple[dict[int, int], int]:
    """First fit into the gaps that values leave after their last use."""
    last = {owner[value]: i for i, step in enumerate(steps) for value in step.inputs}
    last[owner[steps[-1].output]] = len(steps)
    taken: dict[int, tuple[int, int]] = {}  # value: [begin, end)
    place: dict[int, int] = {}
    arena = 0

    def put(value: int) -> None:
        nonlocal arena
        size = -(-math.prod(shapes[value]) // ALIGN) * ALIGN
        begin = 0
        for other_begin, other_end in sorted(taken.values()):
            if begin + size <= other_begin:
                break
            begin = max(begin, other_end)
        taken[value], place[value] = (begin, begin + size), begin
        arena = max(arena, begin + size)

    put(0)
    for i, step in enumerate(steps):
        value = step.output
        if owner[value] == value:
            put(value)
        else:
            place[value] = place[owner[value]]
        for dead in [v for v in taken if last.get(v, i) <= i]:
            del taken[dead]
    return place, arena

"""Quantised tickets of small graphs, and graphs with every operator in every place that int8 knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slt_infer import models, reference
from slt_infer.quantise import code_of, own_scale
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Quantisation,
    Relu,
    Ticket,
)


def quantised(ticket: Ticket, x: np.ndarray, pow2: bool = False) -> Ticket:
    """Scales from the largest that each value is in f32 on images x, twice that where multipliers are rounded
    to powers of two; 1 where it is nothing but 0.
    """
    values = [x]
    for node in ticket.network.nodes:
        values.append(reference._run_node(ticket, node, values))
    room = 2 if pow2 else 1
    largest = [room * float(np.abs(values[value]).max()) / 127 for value in own_scale(ticket.network)]
    codes = tuple(code_of(scale or 1.0, pow2=pow2) for scale in largest)
    return replace(ticket, quantisation=Quantisation(codes, pow2))


def every_operator() -> Network:
    """Pools with padding, groups, depthwise, strides, oblong kernels, with and without affine; adds of which
    the left or the right operand is joined, or none is: two pools, one value twice, a layer that others read.
    """
    layers = (
        LayerShape("a", 8, 3, (3, 5), affine=True),
        LayerShape("b", 8, 4, (3, 3), groups=2, affine=True),
        LayerShape("c", 8, 1, (3, 3), groups=8, affine=True),
        LayerShape("d", 16, 8, (1, 1), affine=True),
        LayerShape("e", 16, 8, (5, 5), affine=True),
        LayerShape("f", 16, 16, (3, 3)),
        LayerShape("g", 24, 64, affine=True),
        LayerShape("h", 24, 16, affine=True),
        LayerShape("i", 10, 24),
    )
    nodes = (
        Conv2d(0, 0, 1, 2),  # 1: 3x15x13 to 8x17x13
        Relu(1),
        MaxPool2d(2, 3, 2, 1),  # 3: 8x9x7
        Conv2d(3, 1, 1, 1),
        Add(4, 3),  # 5: its left operand is joined
        Relu(5),
        Conv2d(6, 2, 1, 1),
        Add(6, 7),  # 8: its right operand is joined
        Add(8, 8),  # 9: one value twice
        AvgPool2d(9, 3, 1, 1),
        MaxPool2d(9, 3, 1, 1),
        Add(10, 11),  # 12: no layer
        Relu(12),
        Conv2d(13, 3, 2),  # 14: 16x5x4
        Conv2d(13, 4, 2, 2),
        Add(14, 15),  # 16: 15 joined to the sum with 14, a layer without relu
        Conv2d(16, 5, 1, 1),
        Relu(17),
        Add(18, 17),  # 19: 17 has two readers
        MaxPool2d(19, 2, 2),  # 20: 16x2x2
        Flatten(20),
        Linear(21, 6),
        Relu(22),
        GlobalAvgPool2d(19),  # 24
        Linear(24, 7),
        Add(23, 25),  # 26: a linear joined
        Linear(26, 8),
    )
    return Network("every operator", (3, 15, 13), layers, nodes)


def ends() -> dict[str, Network]:
    """By the operator of the last node, which gives the logits."""
    conv, first = LayerShape("conv", 6, 3, (3, 3), affine=True), Conv2d(0, 0, 1, 1)
    flat = LayerShape("flat", 7, 6 * 5 * 4, affine=True), LayerShape("flat too", 7, 6, affine=True)
    both = (first, Flatten(1), Linear(2, 1), GlobalAvgPool2d(1), Linear(4, 2))
    graphs = {
        "linear": ((conv, *flat[:1]), both[:3]),
        "joined add": ((conv, *flat), (*both, Add(3, 5))),
        "joined add and relu": ((conv, *flat), (*both, Add(3, 5), Relu(6))),
        "add": ((conv,), (first, GlobalAvgPool2d(1), Add(2, 2))),
        "relu": ((conv, *flat[:1]), (*both[:3], Relu(3))),
        "relu alone": ((conv,), (first, Relu(1), GlobalAvgPool2d(2), Relu(3))),
        "global_avg_pool2d": ((conv,), (first, Relu(1), GlobalAvgPool2d(2))),
        "flatten": ((conv,), (first, Flatten(1))),
        "flatten of a pool": ((conv,), (first, AvgPool2d(1, 2, 2), Flatten(2))),
        "flatten of a max_pool2d": ((conv,), (first, MaxPool2d(1, 2, 1, 1), Flatten(2))),
    }
    return {name: Network(name, (3, 5, 4), layers, nodes) for name, (layers, nodes) in graphs.items()}


def small_resnets() -> tuple[Network, ...]:
    return models.network("resnet18-cifar@0.1", (3, 12, 12), 10), models.network("resnet50@0.05", (3, 33, 33))

"""Tickets of small graphs with random masks, and images for them."""

from __future__ import annotations

import numpy as np

from slt_infer.codec import pattern_counts, ticket_from_masks
from slt_infer.ticket import Conv2d, Flatten, Freeze, LayerShape, Linear, Network, Node, Source, Ticket

FREEZE = Freeze(4, 3, 2)  # 3/16 pruned, 2/16 locked


def random_ticket(
    network: Network,
    seed: int = 1,
    density: float = 0.5,
    freeze: Freeze = FREEZE,
    source: Source | None = None,
) -> Ticket:
    """`density`: of the mask's bits. Every layer keeps at least one weight: one that the pattern would prune
    wholly, having few weights, is left free.
    """
    source = source or Source(seed=seed)
    random = np.random.default_rng(seed)
    masks, affines = [], []
    counts = pattern_counts(network, source, [freeze] * len(network.layers))
    freezes = [freeze if locked + free else Freeze() for _, locked, free in counts]
    for shape, (_, _, free) in zip(network.layers, pattern_counts(network, source, freezes), strict=True):
        mask = random.random(free) < density
        mask[: max(1, free // 50)] = True
        masks.append(mask)
        scale = random.uniform(0.1, 2, shape.out)
        affines.append(
            np.stack([scale, random.normal(size=shape.out)]).astype(np.float32) if shape.affine else None
        )
    return ticket_from_masks(network, source, freezes, masks, affines)


def images(network: Network, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *network.input), dtype=np.float32)


def one_conv(
    inputs: int = 3,
    out: int = 5,
    kernel: tuple[int, int] = (3, 3),
    size: tuple[int, int] = (7, 6),
    stride: int = 1,
    padding: int = 1,
    groups: int = 1,
    affine: bool = True,
) -> Network:
    """A convolution whose output, flattened, is the network's."""
    layer = LayerShape("conv", out, inputs // groups, kernel, groups, affine)
    nodes: tuple[Node, ...] = (Conv2d(0, 0, stride, padding), Flatten(1))
    return Network("conv", (inputs, *size), (layer,), nodes)


def one_linear(features: int, out: int, affine: bool = True) -> Network:
    layer = LayerShape("linear", out, features, affine=affine)
    return Network("linear", (features, 1, 1), (layer,), (Flatten(0), Linear(1, 0)))


# One convolution each, of every kind of shape that a kernel may meet.
SHAPES = {
    "3x3": one_conv(),
    "one pixel": one_conv(4, 3, (1, 1), (1, 1), padding=0),
    "1x1": one_conv(130, 7, (1, 1), (9, 8), padding=0),
    "stride 2": one_conv(5, 6, (3, 3), (9, 11), stride=2),
    "stride 3, no padding": one_conv(2, 3, (2, 5), (13, 17), stride=3, padding=0),
    "wide padding": one_conv(2, 3, (3, 3), (2, 3), padding=5),
    "even kernel": one_conv(3, 4, (4, 2), (8, 8), stride=2, padding=2),
    "7x7 stride 2": one_conv(3, 8, (7, 7), (31, 33), stride=2, padding=3),
    "groups": one_conv(12, 8, (3, 3), (6, 5), groups=4),
    "depthwise": one_conv(10, 10, (3, 3), (8, 8), groups=10),
    "depthwise, two rows a group": one_conv(6, 12, (3, 3), (5, 5), groups=6),
    "depthwise, several strips": one_conv(3, 3, (5, 5), (90, 75), padding=2, groups=3),
    "depthwise, stride 2": one_conv(9, 9, (3, 3), (29, 34), stride=2, groups=9),
    "depthwise, stride 3": one_conv(4, 8, (2, 5), (20, 40), stride=3, padding=2, groups=4),
    "depthwise, rows of two blocks": one_conv(2, 2, (12, 11), (14, 30), groups=2),
    "one channel": one_conv(1, 17, (5, 5), (28, 28), padding=2),
    "whole blocks": one_conv(128, 9, (1, 1), (5, 5), padding=0),
    "more pixels than a panel": one_conv(3, 5, (3, 3), (20, 21)),
}

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

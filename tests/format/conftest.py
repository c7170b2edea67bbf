"""Small tickets that between them use every mask mode, both affine forms, groups, several tiles and both
generators.
"""

from __future__ import annotations

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.codec import pattern_counts, ticket_from_masks
from slt_infer.ticket import (
    Add,
    Conv2d,
    Flatten,
    Freeze,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Preprocessing,
    Relu,
    Source,
    Ticket,
)


def score_mask(source: Source, layer: int, free: int, rng: np.random.Generator) -> np.ndarray:
    """Booleans [free] as a search leaves them: kept where the initial score was large, and a few others."""
    u = reference.plane_numbers(source, reference.SCORE, layer, 8, free)
    return (u >= 100) ^ (rng.random(free) < 0.03)


def make_ticket(seed: int = 1, generator: str = "philox4x32") -> Ticket:
    """Five layers: grouped convolution (raw), 1x1 convolution (const), linear ones (static, raw, prior)."""
    network = Network(
        "small",
        (4, 6, 5),
        (
            LayerShape("conv", 6, 2, (3, 2), 2, affine=True),
            LayerShape("point", 6, 6, affine=False),
            LayerShape("wide", 120, 54, affine=True),
            LayerShape("head", 3, 120),
            LayerShape("deep", 120, 120),
        ),
        (
            Conv2d(0, 0, 1, 1),
            Relu(1),
            Conv2d(2, 1),
            Add(2, 3),
            MaxPool2d(4, 3, 2, 1),
            Flatten(5),
            Linear(6, 2),
            Relu(7),
            Linear(8, 4),
            Linear(9, 3),
        ),
    )
    source = Source.named(generator, seed)
    freezes = [Freeze(2, 1, 1), Freeze(), Freeze(3, 1, 2), Freeze(8, 63, 65), Freeze(1, 1, 0)]
    counts = pattern_counts(network, source, freezes)
    rng = np.random.Generator(np.random.PCG64(seed))
    shares = [0.5, 1.0, 0.04, 0.5]
    masks = [rng.random(free) < share for (_, _, free), share in zip(counts, shares, strict=False)]
    masks.append(score_mask(source, 4, counts[4][2], rng))
    affines = [
        np.stack([rng.uniform(0.5, 2, s.out), rng.normal(size=s.out)]).astype(np.float32)
        if s.affine
        else None
        for s in network.layers
    ]
    preprocessing = Preprocessing((0.5,) * 4, (0.25,) * 4, "stretch", ("a", "b", "c"))
    return ticket_from_masks(network, source, freezes, masks, affines, preprocessing, [("made by", "a test")])


@pytest.fixture(scope="session", params=["philox4x32", "philox4x32-7", "threefry4x32", "threefry4x32-12"])
def ticket(request) -> Ticket:
    return make_ticket(7, request.param)


@pytest.fixture(scope="session")
def one_ticket() -> Ticket:
    return make_ticket()


@pytest.fixture(scope="session")
def tiny_ticket() -> Ticket:
    """A file of a few hundred bytes with every kind of part, for tests that try every bit."""
    network = Network(
        "t",
        (2, 2, 2),
        (
            LayerShape("c", 3, 2, (2, 2), affine=True),
            LayerShape("f", 70, 3),
            LayerShape("h", 2, 70),
            LayerShape("p", 70, 70),
        ),
        (Conv2d(0, 0), GlobalAvgPool2d(1), Linear(2, 1), Linear(3, 3), Linear(4, 2)),
    )
    source = Source("threefry4x32", 13, 2**63 + 5)
    freezes = [Freeze(1, 1, 0), Freeze(), Freeze(), Freeze(1, 1, 0)]
    counts = pattern_counts(network, source, freezes)
    rng = np.random.Generator(np.random.PCG64(3))
    masks = [rng.random(free) < share for (_, _, free), share in zip(counts, (0.5, 0.5, 1.0), strict=False)]
    masks[0][0] = True
    masks.append(score_mask(source, 3, counts[3][2], rng))
    affines = [np.ones((2, 3), np.float32), None, None, None]
    return ticket_from_masks(network, source, freezes, masks, affines)

"""Layer rules and thresholds, against the papers' own numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_infer import models
from slt_infer.codec import pattern_counts
from slt_infer.errors import RatioError
from slt_infer.freeze import check, densities, placement, thresholds
from slt_infer.ticket import LayerShape, Source


@pytest.mark.parametrize(
    ("sparsity", "frozen", "prune", "lock"),
    [
        # rows of Tables 1 and 2 and of Figure 6 of the frozen-networks paper that follow its position rule
        (0.5, 0.5, 0.25, 0.25),
        (0.5, 0.6, 0.3, 0.3),
        (0.9, 0.85, 0.825, 0.025),
        (0.9, 0.9, 0.85, 0.05),
        (0.8, 0.7, 0.65, 0.05),
        (0.6, 0.5, 0.35, 0.15),
        (0.6, 0.6, 0.4, 0.2),
        (0.2, 0.4, 0.0, 0.4),
        (0.2, 0.5, 0.0, 0.5),
        (0.95, 0.4, 0.4, 0.0),
    ],
)
def test_the_position_rule(sparsity, frozen, prune, lock):
    assert placement(sparsity, frozen) == pytest.approx((prune, lock))


@pytest.mark.parametrize(
    ("ratios", "named"),
    [
        ((0.5, 0.6, 0.1), "prune"),
        ((0.5, 0.1, 0.6), "lock"),
        ((1.0, 0.0, 0.0), "sparsity"),
        ((0.5, -0.1, 0.0), "prune"),
    ],
)
def test_impossible_ratios_are_refused_by_name(ratios, named):
    with pytest.raises(RatioError) as refusal:
        check(*ratios)
    assert refusal.value.where == named


def test_unknown_rules_are_refused():
    with pytest.raises(RatioError, match="uniform, erk, epl"):
        densities([LayerShape("a", 1, 1)], 0.5, "balanced")


def realised(name: str, density: float, rule: str) -> list[float]:
    return densities(models.network(name).layers, density, rule)


@pytest.mark.parametrize("rule", ["uniform", "erk", "epl"])
@pytest.mark.parametrize("name", ["conv6", "resnet18-cifar", "resnet50"])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.3, 0.9, 1.0])
def test_every_rule_meets_the_global_density(rule, name, density):
    layers = models.network(name).layers
    kept = sum(d * layer.weights for d, layer in zip(densities(layers, density, rule), layers, strict=True))
    assert kept == pytest.approx(density * sum(layer.weights for layer in layers))


def test_equal_parameters_per_layer_as_the_paper_has_it():
    """EPL with water-filling: figures of the frozen-networks paper's networks, computed from its rule."""
    resnet = realised("resnet18-cifar", 0.1, "epl")
    assert len(resnet) == 21
    assert sum(density == 1 for density in resnet) == 8
    assert min(resnet) == pytest.approx(0.03, abs=0.005)
    resnet50 = realised("resnet50", 0.3, "epl")
    assert len(resnet50) == 54
    assert sum(density == 1 for density in resnet50) == 25
    assert min(resnet50) == pytest.approx(0.089, abs=0.0005)
    conv6 = dict(
        zip(
            [layer.name for layer in models.network("conv6").layers],
            realised("conv6", 0.5, "epl"),
            strict=True,
        )
    )
    assert sorted(name for name, density in conv6.items() if density < 1) == sorted(
        name for name in conv6 if models_weights("conv6")[name] > 150_000
    )


def models_weights(name: str) -> dict[str, int]:
    return {layer.name: layer.weights for layer in models.network(name).layers}


def test_erk_is_proportional_until_a_layer_is_full():
    shapes = [LayerShape("a", 64, 3, (3, 3)), LayerShape("b", 64, 64, (3, 3)), LayerShape("c", 10, 64)]
    ratios = densities(shapes, 0.1, "erk")
    share = [(3 + 64 + 6) / (3 * 64 * 9), (128 + 6) / (64 * 64 * 9), (64 + 10 + 2) / 640]
    open_ = [i for i, ratio in enumerate(ratios) if ratio < 1]
    assert 1 in open_
    for i in open_:
        assert ratios[i] / share[i] == pytest.approx(ratios[1] / share[1])
    assert all(ratios[1] / share[1] * share[i] >= 1 for i in range(3) if i not in open_)


@given(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["uniform", "erk", "epl"]), st.integers(2, 16))
def test_thresholds_are_minimal_and_near(p, f, rule, bits):
    prune, lock = p / 8, f / 8
    shapes = [LayerShape("a", 16, 27), LayerShape("b", 40, 100), LayerShape("c", 1000, 64)]
    freezes = thresholds(shapes, prune, lock, rule, bits)
    weights = sum(shape.weights for shape in shapes)
    for freeze in freezes:
        assert 0 <= freeze.prune <= 2**freeze.bits
        assert freeze.prune + freeze.lock <= 2**freeze.bits
        assert freeze.bits == 0 or freeze.prune % 2 or freeze.lock % 2
    for name, ratio in (("prune", prune), ("lock", lock)):
        expected = sum(getattr(t, name) / 2**t.bits * s.weights for t, s in zip(freezes, shapes, strict=True))
        # half a step of the largest layer for each of the two roundings that a lock threshold is made of
        assert abs(expected - ratio * weights) <= 64_000 / 2**bits + 1e-6


def test_simple_ratios_cost_few_planes():
    layers = models.network("mlp-784-300-100-10").layers
    assert {t.bits for t in thresholds(layers, 0.25, 0.25, "uniform")} == {2}
    assert {t.bits for t in thresholds(layers, 0.0, 0.0)} == {0}


def test_realised_counts_follow_the_ratios():
    """Binomial counts: within five standard deviations of what was asked for."""
    network = models.network("conv2")
    counts = pattern_counts(network, Source(seed=3), thresholds(network.layers, 0.3, 0.2, "uniform", 16))
    weights = network.weights
    for kind, share in enumerate((0.3, 0.2, 0.5)):
        total = sum(layer[kind] for layer in counts)
        assert abs(total - share * weights) < 5 * np.sqrt(weights * share * (1 - share))

"""benchmarks/contexts.py: code lengths are honest, and structure that was planted is found."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from math import comb, log2
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def contexts() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "contexts.py"
    spec = importlib.util.spec_from_file_location("contexts", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def layer(contexts: ModuleType, share: np.ndarray):
    """A layer [40, 300] behind an image of 3 x 10 x 10, every weight free and kept by `share`'s chance."""
    random = np.random.Generator(np.random.PCG64(1))
    bits = random.random((40, 300)) < share
    count, none = bits.size, np.zeros(bits.size, dtype=np.int64)
    free, negative = np.ones(count, dtype=bool), random.random(count) < 0.5
    half = np.full(count, bits.mean())
    return contexts.Layer("fc", 40, 300, False, (3, 10, 10), free, bits.ravel(), negative, none, half)


def test_a_code_length_by_hand(contexts):
    """Two of four ones in any order: 3/8 · 1/(2n choose n) ... as the estimator's product gives it."""
    bits = np.array([True, False, True, False])
    product = (1 / 2) * (1 / 4) * (3 / 6) * (3 / 8)
    assert contexts.adaptive_bits(bits, np.zeros(4, dtype=np.int64)) == pytest.approx(-log2(product))
    apart = contexts.adaptive_bits(bits, np.array([0, 1, 0, 1]))
    assert apart == pytest.approx(-2 * log2((1 / 2) * (3 / 4)))
    assert product < 1 / comb(4, 2)


def test_nothing_is_found_in_noise(contexts):
    noise = layer(contexts, np.full((40, 300), 0.3))
    alone = contexts.adaptive_bits(noise.bits, noise.interval)
    for context in contexts.contexts(noise).values():
        for own in (np.ones_like(context), np.where(noise.negative, -1, 1)):
            assert contexts.offset_bits(noise.bits, noise.interval, context, own) > alone
        assert contexts.adaptive_bits(noise.bits, context) > 0.999 * alone


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("output channel", np.linspace(0.1, 0.9, 40)[:, None]),
        ("kept in the row so far", np.linspace(0.1, 0.9, 40)[:, None]),
        ("input channel", np.repeat([0.1, 0.5, 0.9], 100)[None]),
        ("position", np.tile(np.linspace(0.1, 0.9, 100), 3)[None]),
    ],
)
def test_what_was_planted_is_found(contexts, name, share):
    planted = layer(contexts, np.broadcast_to(share, (40, 300)))
    alone = contexts.adaptive_bits(planted.bits, planted.interval)
    context = contexts.contexts(planted)[name]
    assert contexts.adaptive_bits(planted.bits, context) < 0.95 * alone
    own = np.ones_like(context)
    assert contexts.offset_bits(planted.bits, planted.interval, context, own) < 0.95 * alone


def test_what_goes_with_the_sign_is_found(contexts):
    """In each row either the positive weights or the negative ones are kept more often."""
    random = np.random.Generator(np.random.PCG64(2))
    planted = layer(contexts, np.full((40, 300), 0.5))
    own = np.where(planted.negative, -1, 1)
    way = own * np.repeat(random.choice([-1, 1], 40), 300)
    planted = replace(planted, bits=random.random(len(own)) < 0.5 + 0.3 * way)
    alone = contexts.adaptive_bits(planted.bits, planted.interval)
    found = contexts.contexts(planted)
    row = found["output channel"]
    assert contexts.offset_bits(planted.bits, planted.interval, row, own) < 0.8 * alone
    assert contexts.offset_bits(planted.bits, planted.interval, row, np.ones_like(row)) > 0.99 * alone
    assert contexts.adaptive_bits(planted.bits, found["kept in the row so far, with signs"]) < 0.8 * alone

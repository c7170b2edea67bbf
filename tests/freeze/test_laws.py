"""The freeze laws: what docs/format.md, section 3 says of `mixed`, proved or counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from slt_infer import _core, reference
from slt_infer.ticket import BLOCK, Freeze, LayerShape, unpack_bits

SHAPE = LayerShape("a", 64, 1000)


def bits_of(planes: int) -> np.ndarray:
    """uint64 [128, planes, 4]: of which of the 256 bits of planes 0 and 1 each bit of a block is the sum."""
    rows = np.zeros((BLOCK, planes, 4), dtype=np.uint64)
    for bit in range(2 * BLOCK):
        a, c = np.zeros((2, 1, BLOCK), dtype=bool)
        (a if bit < BLOCK else c)[0, bit % BLOCK] = True
        for plane, made in enumerate(reference.mixed_planes(a, c)[:planes]):
            rows[made[0], plane, bit // 64] |= np.uint64(1) << np.uint64(bit % 64)
    return rows


def independent(rows: np.ndarray) -> np.ndarray:
    """Booleans [n]: whether the vectors rows [n, vectors, words] over GF(2) are linearly independent."""
    rows = rows.copy()
    whole = np.ones(len(rows), dtype=bool)
    every = np.arange(len(rows))
    for i in range(rows.shape[1]):
        pivot = rows[:, i].copy()
        word = (pivot != 0).argmax(axis=1)
        value = pivot[every, word]
        whole &= value != 0
        bit = value & (~value + np.uint64(1))  # the lowest
        has = (rows[every, i + 1 :, word] & bit[:, None]) != 0
        rows[:, i + 1 :] ^= np.where(has[:, :, None], pivot[:, None], np.uint64(0))
    return whole


def sets(size: int) -> np.ndarray:
    """Sets of `size` positions with position 0 among them: as the planes are sums of translates, these stand
    for all sets.
    """
    others = list(itertools.combinations(range(1, BLOCK), size - 1))
    return np.pad(np.array(others), ((0, 0), (1, 0)))


@pytest.mark.parametrize(("planes", "size"), [(16, 2), (8, 3), (16, 3)])
def test_few_positions_are_independent(planes: int, size: int) -> None:
    """So by the law `mixed` counts have exactly the moments, up to that order, of independent draws."""
    positions = sets(size)
    rows = bits_of(planes)[positions].reshape(len(positions), size * planes, 4)
    assert independent(rows).all()


@pytest.mark.parametrize(("planes", "size"), [(8, 5), (16, 4)])
def test_some_larger_sets_of_positions_are_independent(planes: int, size: int) -> None:
    """All are; a thousand of them take less time."""
    numbers = np.random.default_rng(size)
    positions = np.array([numbers.choice(BLOCK, size, replace=False) for _ in range(1000)])
    rows = bits_of(planes)[positions].reshape(len(positions), size * planes, 4)
    assert independent(rows).all()


def test_six_positions_need_not_be_independent() -> None:
    rows = bits_of(8)[[0, 39, 56, 63, 99, 115]].reshape(1, 48, 4)
    assert not independent(rows).any()


def test_planes_are_sums_of_translates() -> None:
    """A translated pair of first planes gives the other planes translated: what `sets` rests on."""
    a, c = np.random.default_rng(1).random((2, 5, BLOCK)) < 0.5
    for g in (1, 63, 64, 90):
        moved = reference.mixed_planes(reference.translated(a, g), reference.translated(c, g))
        for plane, of_moved in zip(reference.mixed_planes(a, c), moved, strict=True):
            np.testing.assert_array_equal(reference.translated(plane, g), of_moved)


def freeze_rows(law: str, freeze: Freeze, first: int = 0, count: int = SHAPE.out) -> np.ndarray:
    """uint64 [2, count, P / 64]: free and locked."""
    thresholds = (freeze.bits, freeze.prune, freeze.lock)
    return np.stack(_core.freeze_rows("philox4x32", 10, 7, law, 2, SHAPE.fan_in, *thresholds, first, count))


@pytest.mark.parametrize("freeze", [Freeze(), Freeze(0, 1, 0), Freeze(1, 1, 0), Freeze(2, 1, 1)])
def test_of_up_to_two_planes_the_laws_are_one(freeze: Freeze) -> None:
    np.testing.assert_array_equal(freeze_rows("mixed", freeze), freeze_rows("bernoulli", freeze))


def test_of_more_planes_they_differ() -> None:
    freeze = Freeze(3, 1, 1)
    assert (freeze_rows("mixed", freeze) != freeze_rows("bernoulli", freeze)).any()


def test_a_row_alone_has_the_bits_it_has_among_others() -> None:
    together = freeze_rows("mixed", Freeze(8, 77, 51))
    for row in range(SHAPE.out):
        np.testing.assert_array_equal(freeze_rows("mixed", Freeze(8, 77, 51), row, 1)[:, 0], together[:, row])


def test_the_shares_of_a_large_layer_are_those_asked_for() -> None:
    """2^21 positions: each count within 5 standard deviations of independent draws, which the law has too."""
    out, fan_in = 128, 2**14
    free, locked = _core.freeze_rows("philox4x32", 10, 3, "mixed", 0, fan_in, 8, 77, 51, 0, out)
    for words, share in ((free, (256 - 77 - 51) / 256), (locked, 51 / 256)):
        count = int(unpack_bits(words.view(np.uint32).ravel(), out * fan_in).sum())
        assert abs(count - share * out * fan_in) < 5 * (share * (1 - share) * out * fan_in) ** 0.5

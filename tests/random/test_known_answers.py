"""Every implementation of the generators reproduces the known answers of Random123."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slt_infer import _core, reference
from slt_infer.ticket import ROUNDS

VECTORS = Path(__file__).parents[1] / "vectors" / "random123_kat.txt"
VERSIONS = [(name, rounds) for name, allowed in ROUNDS.items() for rounds in allowed]


def rows(generator: str, rounds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counters, keys and expected words of the vectors, uint32 [n, 4]; keys are padded with zeros."""
    found = []
    for line in VECTORS.read_text().splitlines():
        name, count, *words = line.split()
        if (name, int(count)) == (generator, rounds):
            numbers = [int(word, 16) for word in words]
            key = numbers[4:-4]
            found.append((numbers[:4], key + [0] * (4 - len(key)), numbers[-4:]))
    assert len(found) == 3
    counters, keys, expected = (np.array(column, dtype=np.uint32) for column in zip(*found, strict=True))
    return counters, keys, expected


@pytest.mark.parametrize(("generator", "rounds"), VERSIONS)
@pytest.mark.parametrize("isa", _core.machine()["isas"])
def test_core(isa: str, generator: str, rounds: int) -> None:
    counters, keys, expected = rows(generator, rounds)
    np.testing.assert_array_equal(_core.random_words(generator, rounds, counters, keys, isa), expected)


@pytest.mark.parametrize(("generator", "rounds"), VERSIONS)
def test_reference(generator: str, rounds: int) -> None:
    for counter, key, expected in zip(*rows(generator, rounds), strict=True):
        words = [int(word) for word in key]
        if generator == "philox4x32":
            out = reference.philox4x32(counter[None], (words[0], words[1]), rounds)
        else:
            out = reference.threefry4x32(counter[None], (words[0], words[1], words[2], words[3]), rounds)
        np.testing.assert_array_equal(out[0], expected)


@pytest.mark.parametrize(("generator", "rounds"), VERSIONS)
def test_interpreted_triton(triton_random: ModuleType, generator: str, rounds: int) -> None:
    import torch

    counters, keys, expected = rows(generator, rounds)
    out = triton_random.random_words(
        generator, rounds, torch.from_numpy(counters.view(np.int32)), torch.from_numpy(keys.view(np.int32))
    )
    np.testing.assert_array_equal(out.numpy().view(np.uint32), expected)


def test_philox_takes_keys_of_two_words() -> None:
    counters, keys, expected = rows("philox4x32", 10)
    np.testing.assert_array_equal(_core.random_words("philox4x32", 10, counters, keys[:, :2]), expected)

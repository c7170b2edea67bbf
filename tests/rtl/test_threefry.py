"""rtl/threefry.sv against the known answers and against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slt_infer import reference

from .benches import build, simulate

KNOWN = Path(__file__).parents[1] / "vectors" / "random123_kat.txt"


def generated(
    key: list[int], counters: list[list[int]], rounds: int, per_cycle: int, stalls: int = 0
) -> tuple[list[list[int]], int]:
    """The words of each counter, and the cycles that they took together."""
    program = build("threefry", PER_CYCLE=per_cycle)
    flat = [word for counter in counters for word in counter]
    *words, cycles = simulate(program, [stalls, rounds, *key, len(counters), *flat])
    return [words[i : i + 4] for i in range(0, len(words), 4)], cycles


@pytest.mark.parametrize("per_cycle", [1, 4])
def test_known_answers(per_cycle: int) -> None:
    lines = [line.split() for line in KNOWN.read_text("utf-8").splitlines()]
    known = [line for line in lines if line[:1] == ["threefry4x32"] and line[1] in ("12", "13", "20")]
    assert len(known) >= 6
    for _, rounds, *words in known:
        numbers = [int(word, 16) for word in words]
        out, _ = generated(numbers[4:8], [numbers[:4]], int(rounds), per_cycle)
        assert out == [numbers[8:]]


@pytest.mark.parametrize(("rounds", "per_cycle"), [(12, 1), (13, 1), (20, 1), (12, 4), (13, 4), (20, 4)])
@pytest.mark.parametrize("stalls", [0, 60])
def test_many_counters_and_their_cycles(rounds: int, per_cycle: int, stalls: int) -> None:
    random = np.random.default_rng(rounds)
    key = [int(word) for word in random.integers(0, 2**32, 4)]
    counters = random.integers(0, 2**32, (200, 4)).astype(np.uint32)
    out, cycles = generated(key, counters.tolist(), rounds, per_cycle, stalls)
    assert out == reference.threefry4x32(counters, (key[0], key[1], key[2], key[3]), rounds).tolist()
    if not stalls:
        assert cycles == 200 * -(-rounds // per_cycle) + 1  # the last is taken in one more

"""Freeze laws side by side: uniformity, digits of the ratios, speed, accuracy of searches.

    python benchmarks/freeze_laws.py [--runs FOLDER]

Prints the tables of docs/results/freeze-laws.md. With --runs it first searches what is not finished there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from slt_infer import _core, models, reference
from slt_infer.codec import core_layer
from slt_infer.freeze import Rule, densities, thresholds
from slt_infer.runtime import Plan
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import BLOCK, Freeze, FreezeLaw, Source

LAWS: tuple[FreezeLaw, ...] = ("bernoulli", "mixed")
PRUNE, LOCK = 0.3, 0.2  # 77 and 51 of 256: all of 8 planes
EIGHT = Freeze(8, 77, 51)
SEEDS = (0, 1, 2)
GENERATORS = (("philox4x32", 10), ("philox4x32", 7), ("threefry4x32", 20), ("threefry4x32", 13))
BLOCKS = 2**16  # of the empirical tests
ROWS, FAN_IN = 64, 4608  # of the timed kernel: its output stays in the cache


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print(f"| {' | '.join(head)} |\n|{'|'.join(['---'] + ['--:'] * (len(head) - 1))}|")
    for row in rows:
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
        print(f"| {' | '.join(cells)} |")
    print()


# -- fixed counts: a keyed permutation of a block ----------------------------------------------------------


def butterfly(blocks: int, pruned: int, locked: int) -> np.ndarray:
    """int8 [blocks, 128]: exactly `pruned` -1 and `locked` 1 in each block.

    The sorted block goes through 7 stages; stage s exchanges positions that differ in bit s alone, where a
    key bit of that pair is set. Three calls give 384 bits, the keys of 6 stages; the last stage's are sums of
    two of these keys, translated.
    """
    keys = [
        reference.plane_bits(Source(seed=5), reference.FREEZE, 0, plane, blocks * BLOCK).reshape(-1, 2, 64)
        for plane in range(3)
    ]
    stages = [half for key in keys for half in (key[:, 0], key[:, 1])]
    stages.append(np.roll(stages[0], 21, axis=1) ^ np.roll(stages[3], 43, axis=1))
    state = np.zeros((blocks, BLOCK), dtype=np.int8)
    state[:, :pruned], state[:, BLOCK - locked :] = -1, 1
    for s, swap in enumerate(stages):
        pairs = state.reshape(blocks, -1, 2, 2**s)
        chosen = swap.reshape(blocks, -1, 2**s)
        low, high = pairs[:, :, 0].copy(), pairs[:, :, 1].copy()
        pairs[:, :, 0], pairs[:, :, 1] = np.where(chosen, high, low), np.where(chosen, low, high)
    return state


# -- uniformity --------------------------------------------------------------------------------------------


def by_law(law: FreezeLaw, freeze: Freeze) -> np.ndarray:
    """int8 [BLOCKS, 128] of one layer."""
    source = Source(seed=5, freeze=law)
    u = reference.freeze_numbers(source, 0, freeze.bits, BLOCKS * BLOCK).reshape(-1, BLOCK)
    locked = u >= 2**freeze.bits - freeze.lock
    return np.where(u < freeze.prune, -1, np.where(locked, 1, 0)).astype(np.int8)


def uniformity() -> None:
    """Squared deviations in units of their variance, a mean of 1 is what chance gives, and the standard
    deviation of a block's count of pruned weights, as a share of that of independent draws.
    """
    few = Freeze(2, 1, 1)
    count = round(PRUNE * BLOCK)
    laws = [
        ("bernoulli, B = 8", by_law("bernoulli", EIGHT), 77 / 256, (77 / 256) ** 2),
        ("bernoulli, B = 2 (1/4, 1/4)", by_law("bernoulli", few), 1 / 4, 1 / 16),
        ("mixed, B = 8", by_law("mixed", EIGHT), 77 / 256, (77 / 256) ** 2),
        (
            "fixed counts",
            butterfly(BLOCKS, count, round(LOCK * BLOCK)),
            count / BLOCK,
            count / BLOCK * (count - 1) / (BLOCK - 1),
        ),
    ]
    rows = []
    for name, state, p, both in laws:
        pruned = (state == -1).astype(np.float64)
        variance = p * (1 - p)
        single = ((pruned.mean(axis=0) - p) ** 2 * BLOCKS / variance).mean()
        joint = ((pruned - p).T @ (pruned - p) / BLOCKS - (both - p * p))[np.triu_indices(BLOCK, 1)]
        pairs = joint**2 * BLOCKS / variance**2
        deviation = pruned.sum(axis=1).std() / (BLOCK * variance) ** 0.5
        rows.append((name, single, pairs.mean(), pairs.max() ** 0.5, deviation))
    head = (
        f"law ({BLOCKS} blocks)", "single positions", "pairs of a block", "worst pair, sd",
        "sd of a block's count",
    )  # fmt: skip
    table(head, rows)


# -- digits ------------------------------------------------------------------------------------------------


def digits() -> None:
    """Ratios as few binary digits, the rounding errors carried from layer to layer, on ResNet-18."""
    shapes = models.network("resnet18").layers
    weights = np.array([shape.weights for shape in shapes])
    rules: tuple[Rule, ...] = ("epl", "uniform")
    rows = []
    for rule, bits in product(rules, (2, 3, 8)):
        pruned = 1 - np.array(densities(shapes, 1 - PRUNE, rule))
        frozen = 1 - np.array(densities(shapes, 1 - PRUNE - LOCK, rule))
        made = thresholds(shapes, PRUNE, LOCK, rule, bits)
        got = np.array([[f.prune / 2**f.bits, (f.prune + f.lock) / 2**f.bits] for f in made])
        errors = np.abs(got - np.stack([pruned, frozen], axis=1))
        total = np.abs(weights @ (got - np.stack([pruned, frozen], axis=1))) / weights.sum()
        partly = ((got > 0) & (got < 1)).any(axis=1).sum()
        rows.append((f"{rule}, B = {bits}", *errors.max(axis=0), *errors.mean(axis=0), *total, partly))
    head = (
        "rule", "prune, worst layer", "frozen, worst layer", "prune, mean of layers", "frozen, mean",
        "prune, whole net", "frozen, whole net", f"layers partly frozen, of {len(shapes)}",
    )  # fmt: skip
    table(head, rows)


# -- speed -------------------------------------------------------------------------------------------------


def fastest(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the thread for each call, the least of `repeats`, taken in turn: the machine may be busy."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.thread_time()
            call()
            best[i] = min(best[i], time.thread_time() - start)
    return best


def speed() -> None:
    isas = [isa for isa in _core.machine()["isas"] if isa != "scalar"]
    cases: list[tuple[str, FreezeLaw, Freeze]] = [
        ("bernoulli, B = 8", "bernoulli", EIGHT),
        ("bernoulli, B = 3", "bernoulli", Freeze(3, 2, 1)),
        ("bernoulli, B = 2", "bernoulli", Freeze(2, 1, 1)),
        ("mixed, B = 8", "mixed", EIGHT),
        ("mixed, B = 16", "mixed", Freeze(16, 19661, 13107)),
    ]

    def call(generator: str, rounds: int, law: str, freeze: Freeze, isa: str) -> Callable[[], object]:
        thresholds = (freeze.bits, freeze.prune, freeze.lock)
        return lambda: _core.freeze_rows(generator, rounds, 1, law, 0, FAN_IN, *thresholds, 0, ROWS, isa)

    rows: list[list[object]] = [[name] for name, _, _ in cases]
    head = ["Gweights/s"]
    for isa in isas:
        for generator, rounds in GENERATORS:
            head.append(f"{generator}-{rounds} {isa}")
            calls = [call(generator, rounds, law, freeze, isa) for _, law, freeze in cases]
            for row, seconds in zip(rows, fastest(calls, 400), strict=True):
                row.append(ROWS * FAN_IN / seconds / 1e9)
    table(head, rows)


def streaming() -> None:
    """All rows of a network's layers regenerated (kept and signs), and one image through a streaming plan."""
    rows = []
    for name in ("resnet18-cifar", "resnet18"):
        network = models.network(name)
        for generator in ("philox4x32", "threefry4x32-13"):
            tickets = [
                synthetic_ticket(network, Source.named(generator, 1, law), 0.5, PRUNE, LOCK) for law in LAWS
            ]
            codes = [
                [core_layer(t.source, of.shape, of.id, of.freeze, of.code) for of in t.layers]
                for t in tickets
            ]
            whole = fastest([lambda of=of: [code.rows(0, code.out) for code in of] for of in codes], 30)
            freezes = fastest([lambda of=of: [code.counts() for code in of] for of in codes], 30)
            plans = [Plan(ticket, mode="stream") for ticket in tickets]
            image = np.zeros((1, *network.input), dtype=np.float32)
            images = fastest([partial(plan, image) for plan in plans], 10)
            for what, seconds in (("freeze pattern", freezes), ("rows", whole), ("one image", images)):
                old, new = (1000 * t for t in seconds)
                rows.append((f"{name}, {generator}, {what}", old, new, new / old))
    table(("ms", "bernoulli", "mixed", "ratio"), rows)


# -- accuracy ----------------------------------------------------------------------------------------------


def accuracy(runs: Path) -> None:
    from slt_infer.search.settings import resolve
    from slt_infer.tools.train import search

    rows = []
    for law in LAWS:
        tests, vals = [], []
        for seed in SEEDS:
            recipe = {"arch": "mlp-784-300-100-10", "data": "fashion-mnist", "epochs": "8ep", "sparsity": 0.5}
            recipe |= {"prune": PRUNE, "lock": LOCK, "seed": seed, "freeze_law": law}
            answer = search(resolve(recipe, {}), None, runs, 1, "cpu")
            tests.append(100 * answer["test_accuracy"])
            vals.append(100 * answer["val_accuracy"])
        cells = [f"{statistics.mean(x):.2f} ± {statistics.stdev(x):.2f}" for x in (tests, vals)]
        rows.append((law, *cells, ", ".join(f"{x:.2f}" for x in tests)))
    table(("law", "test accuracy, %", "validation, %", "test by seed"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of runs; without it accuracy is left out")
    given = parser.parse_args()
    for part in (uniformity, digits, speed, streaming):
        part()
    if given.runs:
        accuracy(given.runs)


if __name__ == "__main__":
    main()

"""What `slt-bench networks` measures: one image through a synthetic ticket's network, in our engine and in
those that a user would run instead.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from slt_infer import models
from slt_infer.errors import SltError
from slt_infer.runtime import Plan
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Source, Ticket
from slt_infer.tools import bench_peers

Row = dict[str, Any]

TICKETS = (
    "resnet18-cifar/0.9/85-5",
    "resnet18-cifar/0.9/0-0",
    "resnet18/0.8/65-5",
    "resnet50/0.8/65-5",
)
NAME = re.compile(r"([^/]+)/(0?\.\d+|0)/(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
SOURCE = Source(seed=1)
# How far the logits of a peer may be from ours, relative to the largest of ours.
BOUNDS = {"f32": 1e-4, "int8": 0.25}


def clock_of(threads: int) -> Callable[[], float]:
    """CPU time of this process, where other work on the machine does not count; elapsed time where several
    threads share the work.
    """
    return time.process_time if threads == 1 else time.perf_counter


def versions() -> dict[str, str]:
    """The peers' versions; SltError (`missing-peer`) where one is not installed."""
    for name in bench_peers.MODULES:
        bench_peers.module(name)
    return {name: version(name) for name in bench_peers.MODULES}


def ticket_of(name: str) -> Ticket:
    """The synthetic ticket that NETWORK/k/prune-lock names: sparsity, per cent of weights pruned and locked.

    Raises SltError: `bad-name` for a name of another form, `bad-network`, RatioError.
    """
    form = NAME.fullmatch(name)
    if form is None:
        raise SltError("bad-name", "is not NETWORK/SPARSITY/PRUNE-LOCK, such as resnet18/0.8/65-5", name)
    network, sparsity, prune, lock = form.groups()
    return synthetic_ticket(
        models.network(network), SOURCE, float(sparsity), float(prune) / 100, float(lock) / 100
    )


def measure(names: Sequence[str], threads: int, seconds: float) -> list[Row]:
    """A row per ticket and engine, `seconds` in all and three rounds at least for each ticket.

    Raises SltError: as ticket_of; `wrong-peer` where logits are not ours within BOUNDS.
    """
    rows: list[Row] = []
    for name in names:
        ticket = ticket_of(name)
        made = engines(ticket, threads)
        macs = ticket.network.macs()
        kept = sum(m * layer.kept / layer.shape.weights for m, layer in zip(macs, ticket.layers, strict=True))
        about = {"ticket": name, "network": ticket.network.name, "threads": threads, "batch": 1}
        about |= {"density": ticket.density, "mac_density": kept / sum(macs)}
        times = rounds([run for _, run in made], threads, seconds / len(names))
        for (row, _), taken in zip(made, times, strict=True):
            rows.append(about | row | taken)
    return rows


def engines(ticket: Ticket, threads: int) -> list[tuple[Row, bench_peers.Engine]]:
    """Ours and the peers, each with what tells it apart and how far its logits are from ours."""
    image = np.random.Generator(np.random.PCG64(0)).standard_normal(
        (1, *ticket.network.input), dtype=np.float32
    )
    stream = Plan(ticket, mode="stream", threads=threads)
    resident = Plan(ticket, mode="resident", threads=threads)
    own: dict[str, bench_peers.Engine] = {
        "stream": lambda: stream(image),
        "resident": lambda: resident(image),
    }
    made: list[tuple[Row, bench_peers.Engine]] = [
        ({"engine": "slt", "type": "f32", "mode": mode, "multiplierless": True}, run)
        for mode, run in own.items()
    ]
    for (engine, kind), run in bench_peers.engines(ticket, image, threads).items():
        made.append(({"engine": engine, "type": kind, "mode": None, "multiplierless": False}, run))
    logits = stream(image)
    for row, run in made:
        error, bound = float(np.abs(run() - logits).max() / np.abs(logits).max()), BOUNDS[row["type"]]
        if not error <= bound:
            message = f"logits differ by {error:.2g} of the largest, over {bound:g}"
            raise SltError("wrong-peer", message, f"{row['engine']} {row['type']}, {ticket.network.name}")
        row["error"] = error
    return made


def rounds(runs: Sequence[bench_peers.Engine], threads: int, seconds: float) -> list[Row]:
    """Milliseconds of one call of each, over rounds of all in turn.

    Each timed call follows one of the same engine that is not: all find in the caches what they left there.
    """
    clock = clock_of(threads)
    taken: list[list[float]] = [[] for _ in runs]
    elapsed: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while len(taken[-1]) < 3 or time.perf_counter() < end:
        for i, run in enumerate(runs):
            run()
            begin, start = time.perf_counter(), clock()
            run()
            taken[i].append(1e3 * (clock() - start))
            elapsed[i].append(1e3 * (time.perf_counter() - begin))
    return [
        {
            "ms_median": statistics.median(ms),
            "ms_min": min(ms),
            "ms_max": max(ms),
            "elapsed_ms_median": statistics.median(wall),
            "rounds": len(ms),
        }
        for ms, wall in zip(taken, elapsed, strict=True)
    ]

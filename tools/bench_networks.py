"""What `slt-bench networks` measures: one image through a synthetic ticket's network, in our engine and in
those that a user would run instead.
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from slt_infer import models
from slt_infer.errors import SltError
from slt_infer.runtime import Plan
from slt_infer.runtime.calibrate import calibrated
from slt_infer.runtime.cpu import DType
from slt_infer.runtime.layers import Mode
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
# How far logits may be from ours in f32, relative to the largest of ours. A multiplier may be off from its
# nearest power of two by a factor of 1.41, in each layer anew: no bound holds for those.
BOUNDS = {"f32": 1e-4, "int8": 0.25, "pow2": math.inf}


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

    A peer whose int8 logits are further from ours than BOUNDS allows is timed too, its row marked `far`: how
    well it quantises a random network is its own affair. Raises SltError: as ticket_of; `wrong-peer` where
    other logits are not ours within BOUNDS, or ours not the same in both modes and with all kernels.
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
    """Ours and the peers, each with what tells it apart and how far its logits are from ours in f32."""
    image = np.random.Generator(np.random.PCG64(0)).standard_normal(
        (1, *ticket.network.input), dtype=np.float32
    )
    made = own_engines(ticket, image, threads)
    logits = made[0][1]()
    for (engine, kind), run in bench_peers.engines(ticket, image, threads).items():
        about = {"engine": engine, "type": kind, "mode": None, "multiplierless": False, "pow2": False}
        made.append((about, run))
    for row, run in made:
        error = float(np.abs(run() - logits).max() / np.abs(logits).max())
        bound = BOUNDS["pow2" if row["pow2"] else row["type"]]
        row["error"], row["far"] = error, not error <= bound
        is_theirs = row["engine"] != "slt" and row["type"] == "int8" and math.isfinite(error)
        if row["far"] and not is_theirs:
            message = f"logits differ by {error:.2g} of the largest, over {bound:g}"
            raise SltError("wrong-peer", message, f"{row['engine']} {row['type']}, {ticket.network.name}")
    return made


def own_engines(ticket: Ticket, image: np.ndarray, threads: int) -> list[tuple[Row, bench_peers.Engine]]:
    """f32, int8 with any kernel, and int8 by additions alone, scales and multipliers powers of two."""
    noise = bench_peers.noise(ticket.network.input)
    made: list[tuple[Row, bench_peers.Engine]] = []
    kinds: tuple[tuple[DType, bool], ...] = (("f32", True), ("int8", False), ("int8", True))
    for dtype, multiplierless in kinds:
        pow2 = dtype == "int8" and multiplierless
        own = calibrated(ticket, noise, pow2=pow2) if dtype == "int8" else ticket
        # One number for all: of both modes and, where a row has no bound on its error, of the other kernels.
        other = Plan(own, threads=threads, dtype=dtype, multiplierless=not multiplierless)
        wanted = _logits(other, image)
        modes: tuple[Mode, ...] = ("stream", "resident")
        for mode in modes:
            net = Plan(own, mode=mode, threads=threads, dtype=dtype, multiplierless=multiplierless)
            about: Row = {"engine": "slt", "type": dtype, "mode": mode}
            about |= {"multiplierless": multiplierless, "pow2": pow2}
            run = partial(_logits, net, image)
            made.append((about, run))
            if wanted.tobytes() != run().tobytes():
                where = f"slt {dtype}, {ticket.network.name}"
                raise SltError("wrong-peer", "logits differ between kernels or modes", where)
    return made


def _logits(net: Plan, image: np.ndarray) -> np.ndarray:
    logits: np.ndarray = net(image)
    return logits if net.dtype == "f32" else logits * net.logit_scale


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

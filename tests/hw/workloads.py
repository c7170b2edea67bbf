"""Workloads of synthetic tickets, each made once per test session."""

from __future__ import annotations

import functools

import numpy as np

from slt_infer import models, reference
from slt_infer.codec import pattern_counts, ticket_from_masks
from slt_infer.hw import Workload, workload_of
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Freeze, Source, Ticket


@functools.cache
def ticket(
    network: str, sparsity: float = 0.8, prune: float = 0.65, lock: float = 0.05, rule: str = "epl"
) -> Ticket:
    source = Source.named("threefry4x32", 1, "mixed")
    return synthetic_ticket(models.network(network), source, sparsity, prune, lock, rule)  # type: ignore[arg-type]


@functools.cache
def workload(
    network: str, sparsity: float = 0.8, prune: float = 0.65, lock: float = 0.05, rule: str = "epl"
) -> Workload:
    return workload_of(ticket(network, sparsity, prune, lock, rule))


@functools.cache
def remembering() -> Ticket:
    """A ticket whose masks remember the initial scores, so that they are coded by them."""
    network = models.network("conv2")
    source = Source.named("threefry4x32", 1, "mixed")
    random = np.random.default_rng(0)
    freezes = [Freeze(2, 1, 1)] * len(network.layers)
    masks = []
    for i, (_, _, free) in enumerate(pattern_counts(network, source, freezes)):
        scores = reference.initial_scores(source, i, free, 1.0)
        masks.append(np.abs(scores) + 0.2 * random.standard_normal(free) > 0.5)
    return ticket_from_masks(network, source, freezes, masks, [None] * len(masks))

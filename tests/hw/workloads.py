"""Workloads of synthetic tickets, each made once per test session."""

from __future__ import annotations

import functools

from slt_infer import models
from slt_infer.hw import Workload, workload_of
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Source, Ticket


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

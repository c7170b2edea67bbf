"""Affines at 8 or 16 bits a number, where no prediction changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from slt_infer.codec import with_affine
from slt_infer.errors import TicketError
from slt_infer.format import affine
from slt_infer.runtime.plan import Plan
from slt_infer.ticket import Ticket

BATCH = 100  # images in one call of the network

Images = Callable[[np.ndarray], np.ndarray]
Watch = Callable[[str, int], None]


@dataclass(frozen=True)
class Narrowed:
    """different: images whose prediction by the ticket is not the one that was wanted."""

    ticket: Ticket
    different: int


def with_affine_bits(ticket: Ticket, bits: int, only: int | None = None) -> Ticket:
    """The ticket with its affines, or those of layer `only`, rounded to the form of `bits` bits, in every
    task.
    """
    tasks = [list(layers) for layers in ticket.tasks]
    for layers in tasks:
        for i, layer in enumerate(layers):
            if layer.affine is not None and only in (None, i):
                layers[i] = with_affine(layer, affine.rounded(layer.affine, bits), bits)
    return replace(ticket, layers=tuple(tasks[0]), others=tuple(map(tuple, tasks[1:])))


def narrowest(ticket: Ticket, images: Images, predictions: np.ndarray, watch: Watch) -> Narrowed:
    """Each affine in the narrowest form with which every prediction stays as it is with 32 bits.

    Layer by layer, from the one with the most channels, those before it as narrow as was found. images(i)
    gives images float32 [n, C, H, W] for their numbers i [n]; predictions: int64 [N], the wanted classes.
    watch(what, done) is told the number of images that a trial has run. Raises TicketError for a ticket of
    several tasks.
    """
    if ticket.others:
        raise TicketError("unsupported", "predictions of one task say nothing of the others", "affine")
    given = Plan(ticket, mode="resident")
    logits = np.concatenate(
        [given(images(part)) for part in _batches(np.arange(len(predictions)), "32 bits", watch)]
    )
    own = logits.argmax(axis=1)
    top = np.sort(logits, axis=1)[:, -2:]
    order = np.argsort(top[:, -1] - top[:, 0], kind="stable")  # a change shows in the nearest first

    def same(trial: Ticket, what: str) -> bool:
        net = Plan(trial, mode="resident")
        return all(
            np.array_equal(net(images(part)).argmax(axis=1), own[part])
            for part in _batches(order, what, watch)
        )

    channels = [layer.shape.out if layer.affine is not None else 0 for layer in ticket.layers]
    for i in sorted(range(len(channels)), key=lambda i: -channels[i]):
        for bits in (8, 16) if channels[i] else ():
            try:
                trial = with_affine_bits(ticket, bits, i)
            except TicketError:  # numbers so far apart that the form overflows
                continue
            if same(trial, f"{ticket.layers[i].shape.name} at {bits} bits"):
                ticket = trial
                break
    return Narrowed(ticket, int((own != predictions).sum()))


def _batches(numbers: np.ndarray, what: str, watch: Watch) -> Iterator[np.ndarray]:
    for first in range(0, len(numbers), BATCH):
        watch(what, first)
        yield numbers[first : first + BATCH]

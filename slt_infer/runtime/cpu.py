"""The `cpu` backend: the C++ kernels on one arena."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from slt_infer.errors import SltError
from slt_infer.runtime.f32 import F32Layers
from slt_infer.runtime.int8 import Int8Layers
from slt_infer.runtime.layers import Layers, Mode, resident_bound
from slt_infer.runtime.schedule import Schedule, schedule
from slt_infer.ticket import Flatten, Ticket

DType = Literal["f32", "int8"]

ARENA_BYTES = 2**26  # of a pass over more than one image


class CpuBackend:
    """Runs batches of any size, in passes of as many images as ARENA_BYTES hold (at least one).

    modes: those to choose from, the first that fits.
    """

    def __init__(
        self,
        ticket: Ticket,
        dtype: DType,
        multiplierless: bool,
        modes: Sequence[Mode],
        threads: int,
        isa: str,
        max_memory: int,
    ) -> None:
        if dtype == "f32":
            self.schedule: Schedule = schedule(ticket.network)
        else:
            self.schedule = schedule(ticket.network, 1, ticket.network.joined)
        arena = (4 if dtype == "f32" else 1) * self.schedule.arena
        if dtype == "int8":  # logits do not fit the arena
            arena += 4 * math.prod(self.schedule.shapes[-1])
        if arena > max_memory:  # before anything is allocated
            raise SltError(
                "memory", f"one image needs {arena} bytes of activations, over {max_memory}", "plan"
            )
        for self.mode in modes:
            if self.mode != modes[-1] and arena + resident_bound(ticket) > max_memory:
                continue
            self.layers: Layers[Any] = (
                F32Layers(ticket, self.mode, threads, isa)
                if dtype == "f32"
                else Int8Layers(ticket, self.mode, threads, isa, multiplierless)
            )
            memory = self.layers.memory  # its peak until now is that of making what is kept
            needed = max(arena + self.layers.scratch_bytes() + memory.current, memory.peak)
            if needed <= max_memory:
                break
        else:
            raise SltError("memory", f"one image needs {needed} bytes, over {max_memory}", "plan")
        self.images_at_once = max(1, min(ARENA_BYTES, max_memory - needed + arena) // arena)
        self.isa: str = self.layers.work.isa
        self.report = self.layers.report
        self._arena = np.empty(0, dtype=self.layers.dtype)
        self._logits = np.empty((0, *self.schedule.shapes[-1]), dtype=self.layers.logits)
        self._passes: dict[int, _Pass] = {}

    @property
    def peak_weight_bytes(self) -> int:
        return int(self.layers.memory.peak)

    def run(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, C, H, W] to float32 or int32 [N, classes]."""
        logits = np.empty((len(images), *self.schedule.shapes[-1]), dtype=self.layers.logits)
        for first in range(0, len(images), self.images_at_once):
            part = images[first : first + self.images_at_once]
            self._pass(len(part)).run(part, logits[first : first + len(part)])
        return logits

    def _pass(self, images: int) -> _Pass:
        if images not in self._passes:
            if images * self.schedule.arena > self._arena.size:
                self._passes = {}
                self._arena = _aligned(images * self.schedule.arena, self.layers.dtype)
                if self.layers.logits != self.layers.dtype:
                    self._logits = np.empty((images, *self.schedule.shapes[-1]), dtype=self.layers.logits)
            if len(self._passes) >= 8:
                self._passes.clear()
            self._passes[images] = _Pass(
                self.schedule, self.layers, self._arena, self._logits[:images], images
            )
        return self._passes[images]


class _Pass:
    """All steps bound to their places in the arena, for one number of images."""

    def __init__(
        self, plan: Schedule, layers: Layers[Any], arena: np.ndarray, logits: np.ndarray, images: int
    ) -> None:
        def view(value: int) -> np.ndarray:
            shape = (images, *plan.shapes[value])
            begin = images * plan.place[value]
            return arena[begin : begin + math.prod(shape)].reshape(shape)

        steps = [step for step in plan.steps if not isinstance(step.node, Flatten)]
        last = len(plan.shapes) - 1
        outputs = {step.output: view(step.output) for step in steps}
        for step in steps:
            if step.output == last and layers.gives_logits(step):
                outputs[last] = logits
        self.take, self.image, self.logits = layers.take, view(0), outputs.get(last, view(last))
        self.calls = [layers.call(s, [view(v) for v in s.inputs], outputs[s.output]) for s in steps]

    def run(self, images: np.ndarray, logits: np.ndarray) -> None:
        self.take(images, self.image)
        for call in self.calls:
            call()
        logits[...] = self.logits


def _aligned(elements: int, dtype: type[np.generic]) -> np.ndarray:
    """Uninitialised [elements] that begins at a multiple of 64 bytes."""
    size = elements * np.dtype(dtype).itemsize
    try:
        raw = np.empty(size + 64, dtype=np.uint8)
    except MemoryError as error:
        raise SltError("memory", f"no {size} bytes for activations", "plan") from error
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(dtype)

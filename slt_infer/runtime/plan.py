"""A ticket made ready to run: `net = Plan(ticket); logits = net(images)`."""

from __future__ import annotations

import os
import threading
from typing import Any, Literal, Protocol, get_args

import numpy as np

from slt_infer import _core
from slt_infer.errors import SltError
from slt_infer.quantise import check_multipliers
from slt_infer.runtime.cpu import CpuBackend, DType
from slt_infer.runtime.images import as_given, as_numpy
from slt_infer.runtime.int8 import logit_scale, quantisation_of
from slt_infer.runtime.layers import LayerReport, Mode
from slt_infer.runtime.reference_backend import ReferenceBackend
from slt_infer.ticket import Ticket

Backend = Literal["cpu", "reference"]
BACKENDS: tuple[str, ...] = get_args(Backend)
AnyMode = Literal["auto", "stream", "resident"]
MODES: tuple[str, ...] = get_args(AnyMode)
DTYPES: tuple[str, ...] = get_args(DType)


class _Runner(Protocol):
    mode: Mode
    isa: str
    report: list[LayerReport]

    @property
    def peak_weight_bytes(self) -> int | None: ...

    def run(self, images: np.ndarray) -> np.ndarray: ...


class Plan:
    """A network with its shapes, memory and kernels chosen. One call at a time: others wait.

    backend: `cpu` (C++) or `reference` (NumPy, slow). mode: `stream` regenerates weights at every call, a
    row group of a layer at a time; `resident` keeps what the kernels read, at most 2 bits per weight and 8
    bytes per row; `auto` is `resident` where that much fits into max_memory beside the activations, else
    `stream`. threads: of the cpu backend. max_memory: bytes that activations, scratch and weights may
    take together for one image (None: what the machine has). isa: forces one of _core.machine()["isas"].
    dtype: `f32`, or `int8` for a ticket with int8 scales. multiplierless: no multiplications by weights, as
    always in f32; else int8 takes dot products for convolutions with long, dense rows. Either way a
    multiplication per output is left, by its scale; in int8 with scales that are powers of two it is a shift.

    Results do not depend on backend, mode, threads, isa, multiplierless or how images are batched
    (docs/numerics.md).

    Raises SltError: `bad-ticket` for what is no Ticket, `unknown-backend`, `unknown-mode`, `unknown-isa`,
    `unknown-dtype`, `bad-threads`, `memory`, `not-quantised` for int8 without scales, `unsupported` for coats
    and flips, which the backend `reference` alone runs; TicketError for a graph that is none.
    """

    def __init__(
        self,
        ticket: Ticket,
        backend: Backend = "cpu",
        mode: AnyMode = "auto",
        threads: int = 1,
        max_memory: int | None = None,
        isa: str = "",
        dtype: DType = "f32",
        multiplierless: bool = False,
    ) -> None:
        if not isinstance(ticket, Ticket):
            message = f"wants a ticket, Plan(load(path)), and is given {type(ticket).__name__}"
            raise SltError("bad-ticket", message, "plan")
        if backend not in BACKENDS:
            raise SltError("unknown-backend", f"{backend!r}; there are {', '.join(BACKENDS)}", "plan")
        if mode not in MODES:
            raise SltError("unknown-mode", f"{mode!r}; there are {', '.join(MODES)}", "plan")
        if not isinstance(dtype, str) or dtype not in DTYPES:  # np.dtype("int8") == "int8"
            known = " or ".join(f'"{name}"' for name in DTYPES)
            raise SltError("unknown-dtype", f"{dtype!r}; dtype is a string, {known}", "plan")
        if not 1 <= threads <= 1024:
            raise SltError("bad-threads", f"{threads} threads; 1 to 1024 are allowed", "plan")
        if isa and isa not in _core.machine()["isas"]:
            known = ", ".join(_core.machine()["isas"])
            raise SltError("unknown-isa", f"{isa!r}; this machine runs {known}", "plan")
        if dtype == "int8":
            quantisation_of(ticket)
            check_multipliers(ticket)
        self.network, self.preprocessing = ticket.network, ticket.preprocessing
        self.backend, self.threads, self.dtype = backend, threads, dtype
        self.multiplierless = multiplierless or dtype == "f32"
        self.logit_scale = logit_scale(ticket) if dtype == "int8" else 1.0
        limit = _machine_memory() if max_memory is None else max_memory
        self._lock = threading.Lock()
        self._runner: _Runner = (
            ReferenceBackend(ticket, dtype, limit)
            if backend == "reference"
            else CpuBackend(
                ticket,
                dtype,
                multiplierless,
                ("resident", "stream") if mode == "auto" else (mode,),
                threads,
                isa,
                limit,
            )
        )

    def __repr__(self) -> str:
        how = f"{self.dtype}, {self.mode} on {self.backend} ({self.isa}), threads={self.threads}"
        return f"<Plan {self.network.name}, input {list(self.network.input)}, {how}>"

    def __call__(self, images: Any) -> Any:
        """Logits [N, classes] of preprocessed images [N, C, H, W], float32; in int8 they are int32, times
        `logit_scale` what they stand for.

        NumPy arrays give NumPy, torch tensors (on the CPU) give torch.

        Raises SltError: `bad-input` for another shape, type or device; `memory` where the system has none.
        """
        return as_given(self._run(as_numpy(images, self.network.input)), images)

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            with self._lock:
                return self._runner.run(images)
        except MemoryError as error:
            raise SltError("memory", f"not enough for {len(images)} images", "plan") from error

    @property
    def mode(self) -> Mode:
        """`stream` or `resident`, whichever is run. The reference makes all weights anew at every call."""
        return self._runner.mode

    @property
    def isa(self) -> str:
        """The instruction set of the kernels; `numpy` for the reference."""
        return self._runner.isa

    @property
    def peak_weight_bytes(self) -> int | None:
        """The most bytes that all derived from weights (coded masks, planes, lists) has taken at one time."""
        return self._runner.peak_weight_bytes

    @property
    def layers(self) -> list[LayerReport]:
        """Per layer: operator, kernel, density and the bytes kept of its weights."""
        return list(self._runner.report)


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

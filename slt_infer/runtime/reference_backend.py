"""The `reference` backend: slt_infer/reference.py behind the interface of the others."""

from __future__ import annotations

import math

import numpy as np

from slt_infer import reference
from slt_infer.errors import SltError
from slt_infer.reference_int8 import run_int8
from slt_infer.runtime.cpu import DType
from slt_infer.runtime.layers import LayerReport, Mode
from slt_infer.ticket import Conv2d, Ticket


class ReferenceBackend:
    """Keeps whole float32 weights of one layer at a time; meant to check, not to be fast."""

    mode: Mode = "stream"
    isa = "numpy"

    def __init__(self, ticket: Ticket, dtype: DType, max_memory: int) -> None:
        values = sum(math.prod(shape) for shape in ticket.network.shapes())
        needed = 4 * (values + max(layer.shape.weights for layer in ticket.layers))
        if needed > max_memory:
            raise SltError("memory", f"one image needs {needed} bytes, over {max_memory}", "plan")
        operators = {n.layer: n for n in ticket.network.nodes if hasattr(n, "layer")}
        self.ticket, self._run = ticket, reference.run if dtype == "f32" else run_int8
        self.report = [
            LayerReport(
                layer.shape.name,
                "conv2d" if isinstance(operators[i], Conv2d) else "linear",
                "numpy",
                layer.kept / layer.shape.weights,
                0,
            )
            for i, layer in enumerate(ticket.layers)
        ]
        self.peak_weight_bytes: int | None = None  # NumPy's memory is not counted

    def run(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, C, H, W] to float32 or int32 [N, classes]."""
        return self._run(self.ticket, images)

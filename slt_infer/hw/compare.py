"""All ways to store a network, on one machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slt_infer.hw.closed_form import closed_form
from slt_infer.hw.description import Hardware, HardwareError
from slt_infer.hw.result import Result, answer
from slt_infer.hw.schemes import SCHEMES, why_not
from slt_infer.hw.workload import Workload

Model = Callable[[Workload, Hardware, str], Result]


def compare(workload: Workload, machine: Hardware, model: Model = closed_form) -> dict[str, Result | str]:
    """By scheme what it costs, or in words why it cannot be."""
    found: dict[str, Result | str] = {}
    for scheme in SCHEMES:
        reason = why_not(scheme, workload, machine)
        try:
            found[scheme] = reason if reason is not None else model(workload, machine, scheme)
        except HardwareError as error:
            if error.code != "too-small":
                raise
            found[scheme] = str(error)
    return found


def side_by_side(results: dict[str, Result | str]) -> dict[str, Any]:
    """For JSON: `schemes`, each with its figures or its `reason`, and `layers`, each with its schemes."""
    schemes: dict[str, Any] = {}
    layers: list[dict[str, Any]] = []
    for name, result in results.items():
        if isinstance(result, str):
            schemes[name] = {"reason": result}
            continue
        told = answer(result)
        of_layers = told.pop("layers")
        schemes[name] = {"what": SCHEMES[name][0], **told}
        layers = layers or [{"name": layer["name"], "schemes": {}} for layer in of_layers]
        for layer, figures in zip(layers, of_layers, strict=True):
            layer["schemes"][name] = figures
    return {"schemes": schemes, "layers": layers}

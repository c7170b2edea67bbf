"""Many machines for one network: the closed form at every point of a grid of parameters, in several
processes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from slt_infer.hw.closed_form import closed_form
from slt_infer.hw.description import HardwareError, load_hardware
from slt_infer.hw.schemes import best_scheme
from slt_infer.hw.workload import Workload

MOST = 10**6  # points
AXES = (
    "cycles",
    "energy_pj",
)  # a point is on the Pareto front if no other is better in one and no worse in both


def grid(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the values of each dotted key, the last key fastest."""
    if math.prod(len(values) for values in axes.values()) > MOST:
        raise HardwareError("limit", f"over {MOST} points; give fewer values", "sweep")
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def sweep(
    workload: Workload,
    hardware: str | Path,
    axes: Mapping[str, Sequence[Any]],
    scheme: str | None = None,
    jobs: int = 1,
    fixed: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """A point per combination, in the order of `grid`: its parameters, and cycles, seconds, dram_bytes,
    energy_pj and tops_per_watt (dense, chip alone), or `reason` and `code`; `pareto` marks the best in
    cycles and energy.

    scheme: None for each machine's best. Raises HardwareError where no point can be.
    """
    load_hardware(hardware, fixed)  # what is wrong with all points is refused before any is tried
    points = list(grid(axes))
    run = partial(_point, workload, hardware, fixed or {}, scheme)
    if jobs > 1 and len(points) > 1:
        with ProcessPoolExecutor(jobs) as pool:
            found = list(pool.map(run, points, chunksize=max(1, len(points) // (4 * jobs))))
    else:
        found = list(map(run, points))
    if all("reason" in point for point in found):
        raise HardwareError(found[0]["code"], f"no point can be; the first: {found[0]['reason']}", "sweep")
    _mark_pareto(found)
    return found


def _point(
    workload: Workload, hardware: str | Path, fixed: dict[str, Any], scheme: str | None, point: dict[str, Any]
) -> dict[str, Any]:
    try:
        machine = load_hardware(hardware, {**fixed, **point})
        chosen = scheme or best_scheme(workload, machine)
        result = closed_form(workload, machine, chosen)
    except HardwareError as error:
        return {"parameters": point, "reason": str(error), "code": error.code}
    energy = result.energy_pj
    chip = sum(value for part, value in energy.items() if part != "dram")
    return {
        "parameters": point,
        "scheme": chosen,
        "cycles": result.cycles.total,
        "seconds": result.seconds,
        "dram_bytes": sum(result.dram_bytes.values()),
        "energy_pj": chip + energy["dram"],
        "tops_per_watt": 2 * workload.macs / chip,
        "elements": machine.array.elements,
    }


def _mark_pareto(points: list[dict[str, Any]]) -> None:
    least = math.inf
    alive = [point for point in points if "reason" not in point]
    for point in sorted(alive, key=lambda point: tuple(point[axis] for axis in AXES)):
        point["pareto"] = point[AXES[1]] < least
        least = min(least, point[AXES[1]])

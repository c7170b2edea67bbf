"""Many machines for one network: the closed form at every point of a grid of parameters, in several
processes or on Ray's workers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from slt_infer.hw.closed_form import closed_form
from slt_infer.hw.description import HardwareError, hardware_of, read_hardware
from slt_infer.hw.schemes import best_scheme
from slt_infer.hw.workload import Workload

MOST = 10**6  # points
# A point is on the Pareto front if no other is better in one and no worse in both.
AXES = ("cycles", "energy_pj")

Point = dict[str, Any]


def grid(axes: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
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
    ray: str | None = None,
) -> list[Point]:
    """A point per combination, in the order of `grid`: its parameters, and cycles, seconds, dram_bytes,
    energy_pj and tops_per_watt (dense, chip alone), or `reason` and `code`; `pareto` marks the best in
    cycles and energy.

    scheme: None for each machine's best. jobs: processes of this machine. ray: instead of them the workers of
    Ray at this address, as ray.init takes it: `local` starts it here, `auto` finds the one that runs. Raises
    HardwareError where no point can be.
    """
    table = read_hardware(hardware)
    hardware_of(table, fixed or {}, str(hardware))  # what is wrong with all points is refused at once
    points = list(grid(axes))
    run = partial(_point, workload, table, str(hardware), fixed or {}, scheme)
    if ray is not None:
        found = _on_ray(run, points, ray)
    elif jobs > 1 and len(points) > 1:
        with ProcessPoolExecutor(jobs) as pool:
            found = list(pool.map(run, points, chunksize=_chunk(points, jobs)))
    else:
        found = _all(run, points)
    if all("reason" in point for point in found):
        raise HardwareError(found[0]["code"], f"no point can be; the first: {found[0]['reason']}", "sweep")
    _mark_pareto(found)
    return found


def _chunk(points: list[Point], workers: int) -> int:
    """Points in a task: four tasks a worker, as points differ in what they cost."""
    return max(1, len(points) // (4 * workers))


def _all(run: Callable[[Point], Point], points: list[Point]) -> list[Point]:
    return [run(point) for point in points]


def _on_ray(run: Callable[[Point], Point], points: list[Point], address: str) -> list[Point]:
    try:
        import ray
    except ImportError as error:
        raise HardwareError(
            "no-ray", f"cannot be imported ({error}); pip install 'slt-infer[ray]' installs it", "ray"
        ) from error
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        remedy = "give `local`, or start it with `ray start --head` and give `auto` or its HOST:PORT"
        raise HardwareError("no-ray", f"{error}; {remedy}", f"Ray at {address}") from error
    try:
        there = ray.put(run)
        task = ray.remote(_all)
        size = _chunk(points, max(1, int(ray.cluster_resources().get("CPU", 1))))
        tasks = [task.remote(there, points[at : at + size]) for at in range(0, len(points), size)]
        return list(itertools.chain.from_iterable(ray.get(tasks)))
    except ray.exceptions.RayError as error:
        raise HardwareError(
            "no-ray", f"{error}; its workers need this slt-infer too", f"Ray at {address}"
        ) from error
    finally:
        ray.shutdown()


def _point(
    workload: Workload,
    table: dict[str, Any],
    where: str,
    fixed: dict[str, Any],
    scheme: str | None,
    point: Point,
) -> Point:
    try:
        machine = hardware_of(table, {**fixed, **point}, where)
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


def _mark_pareto(points: list[Point]) -> None:
    least = math.inf
    alive = [point for point in points if "reason" not in point]
    for point in sorted(alive, key=lambda point: tuple(point[axis] for axis in AXES)):
        point["pareto"] = point[AXES[1]] < least
        least = min(least, point[AXES[1]])

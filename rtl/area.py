"""Gates of each unit of rtl/, counted by Yosys.

    python rtl/area.py                                      # a table, as in docs/rtl.md
    python rtl/area.py --json > slt_infer/hw/gates.json     # what slt-sim's areas are made of
    python rtl/area.py freeze pattern                       # some units

A gate equivalent is the area of the smallest NAND of two inputs. SITES has the widths of the smallest cells
of the Nangate 45 nm Open Cell Library, in placement sites of 0.19 um (all are 1.4 um high; from
OpenROAD-flow-scripts, flow/platforms/nangate45). Flip-flops are plain ones: enables and resets are gates.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RTL = Path(__file__).parent
SITES = {
    "NOT": 2, "NAND": 3, "NOR": 3, "XOR": 6, "XNOR": 6, "AOI3": 4, "OAI3": 4, "AOI4": 5, "OAI4": 5, "DFF": 17,
}  # fmt: skip
Point = tuple[str, dict[str, int]]  # a unit and its parameters
UNITS: list[Point] = [
    *(("threefry", {"PER_CYCLE": count}) for count in (1, 2, 4, 5, 10, 20)),
    ("freeze", {}),
    ("mixed_plane", {}),
    ("pattern", {}),
    ("score_planes", {}),
    *(("mask_decoder", {"WIDTH": count}) for count in (1, 2, 4)),
    *(("kept", {"WIDTH": count}) for count in (1, 2, 4)),
    *(("windows", {"COLUMNS": count}) for count in (4, 8, 16, 32)),
    *(
        ("adder_tile", {"ROWS": rows, "COLUMNS": columns, "ACC": bits})
        for rows in (2, 4)
        for columns in (4, 8, 16, 32)
        for bits in (24, 32)
    ),
    *(("requantise", {"POW2": choice}) for choice in (0, 1)),
]
# Between the counts above areas are interpolated; these say how well.
CHECKS: list[Point] = [
    ("threefry", {"PER_CYCLE": 8}),
    ("adder_tile", {"ROWS": 8, "COLUMNS": 8, "ACC": 32}),
    ("adder_tile", {"ROWS": 16, "COLUMNS": 12, "ACC": 28}),
]


def count(unit: str, parameters: dict[str, int]) -> dict[str, Any]:
    """Cells by kind and gate equivalents of a unit with all that is in it. Raises CalledProcessError where
    Yosys refuses it, or finds a wire with no driver or two, or a latch.
    """
    files = " ".join(str(path) for path in sorted(RTL.glob("*.sv")))
    chosen = "".join(f" -chparam {key} {value}" for key, value in parameters.items())
    gates = ",".join(kind for kind in SITES if kind not in ("NOT", "DFF"))
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as report:
        script = (
            f"read_verilog -sv {files}; hierarchy -check -top {unit}{chosen}; proc; flatten; check -assert; "
            "select -assert-none t:$dlatch; synth; opt -full; simplemap; dfflegalize -cell $_DFF_P_ x; "
            f"abc -g {gates}; opt_clean; tee -o {report.name} stat"
        )
        subprocess.run(["yosys", "-q", "-p", script], check=True, stdout=subprocess.DEVNULL)
        text = report.read()
    found = re.findall(r"^\s+\$_([A-Z0-9]+)_(?:P_)?\s+(\d+)\s*$", text, re.MULTILINE)
    cells = {kind: int(number) for kind, number in found}
    assert re.findall(r"Number of cells:\s+(\d+)", text) == [str(sum(cells.values()))], text
    sites = sum(SITES[kind] * number for kind, number in cells.items())
    return {
        "unit": unit,
        "parameters": parameters,
        "cells": cells,
        "gate_equivalents": round(sites / SITES["NAND"]),
    }


def count_all(points: list[Point], units: list[str]) -> list[dict[str, Any]]:
    counted = []
    for unit, parameters in points:
        if not units or unit in units:
            print(unit, *(f"{key}={value}" for key, value in parameters.items()), file=sys.stderr, flush=True)
            counted.append(count(unit, parameters))
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("units", nargs="*", help="names of units; all if left out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    units, checks = (count_all(points, options.units) for points in (UNITS, CHECKS))
    if options.json:
        version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True).stdout
        tool = " ".join(version.split()[:2])
        print(json.dumps({"tool": tool, "sites": SITES, "units": units, "checks": checks}, indent=1))
        return
    print("| unit | parameters | cells | of them flip-flops | gate equivalents |\n|---|---|--:|--:|--:|")
    for its in [*units, *checks]:
        shown = ", ".join(f"`{key}` {value}" for key, value in its["parameters"].items())
        cells = its["cells"]
        numbers = sum(cells.values()), cells.get("DFF", 0), its["gate_equivalents"]
        print(f"| `{its['unit']}` | {shown} |", " | ".join(f"{number:,}" for number in numbers), "|")


if __name__ == "__main__":
    main()

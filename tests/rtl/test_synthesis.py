"""Yosys reads every unit of rtl/ and finds no latch, no loop and no wire with two drivers."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from .benches import RTL

UNITS = sorted(path.stem for path in RTL.glob("*.sv"))


@pytest.mark.parametrize("unit", UNITS)
def test_synthesizable(unit: str) -> None:
    if shutil.which("yosys") is None:
        pytest.skip("yosys is not installed (Debian: apt-get install yosys)")
    files = " ".join(str(path) for path in sorted(RTL.glob("*.sv")))
    script = f"read_verilog -sv {files}; hierarchy -check -top {unit}; proc; check -assert; "
    script += "select -assert-none t:$dlatch"
    done = subprocess.run(["yosys", "-q", "-p", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

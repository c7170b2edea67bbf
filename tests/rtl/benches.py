"""Units of rtl/ simulated by Verilator: compiled with their test bench, given numbers, giving numbers."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RTL = ROOT / "rtl"
HERE = Path(__file__).parent


@functools.cache
def folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="slt-rtl-")


@functools.cache
def build(unit: str, bench: str = "", **parameters: int) -> Path:
    """The program that simulates a unit with some parameters."""
    if shutil.which("verilator") is None:
        pytest.skip("verilator is not installed (Debian: apt-get install verilator)")
    bench = bench or unit
    name = "-".join([unit, bench, *(f"{key}{value}" for key, value in parameters.items())])
    made = Path(folder().name) / name
    command = ["verilator", "--cc", "--exe", "--build", "-j", "1", "-O3", "--top-module", unit]
    command += [
        "-Wall",
        "-Wno-UNUSEDSIGNAL",
        "--Mdir",
        str(made),
        "-CFLAGS",
        f"-O1 -I{HERE}",
        "-y",
        str(RTL),
        "-y",
        str(HERE),
    ]
    command += [f"-G{key}={value}" for key, value in parameters.items()]
    source = next(path for place in (RTL, HERE) if (path := place / f"{unit}.sv").exists())
    command += ["+libext+.sv", str(source), str(HERE / f"{bench}.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made / f"V{unit}"


def simulate(program: Path, numbers: Iterable[int]) -> list[int]:
    """What the test bench prints when it is given these numbers."""
    text = " ".join(map(str, numbers))
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]

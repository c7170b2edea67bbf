"""The choice of an instruction set, and the checksum that has an instruction of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from slt_infer import _core


def run(code: str, isa: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SLT_ISA": isa}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_machine_says_what_it_is_and_why() -> None:
    machine = _core.machine()
    assert machine["isas"][0] == "scalar"
    assert machine["isa"] in machine["isas"]
    assert machine["why"]
    assert set(machine["features"]) >= {"avx2", "bmi2"} or "avx2" not in machine["isas"]


@pytest.mark.parametrize("isa", _core.machine()["isas"])
def test_the_environment_forces_an_isa(isa: str) -> None:
    result = run("from slt_infer import _core; print(_core.machine()['isa'])", isa)
    assert (result.returncode, result.stdout.strip()) == (0, isa), result.stderr


def test_an_unknown_isa_in_the_environment_is_refused_with_the_available_ones() -> None:
    result = run("from slt_infer import _core; _core.plane('philox4x32', 10, 0, 0, 0, 0, 0, 0, 1)", "sse9")
    assert result.returncode != 0
    assert "RuntimeError" in result.stderr
    assert ", ".join(_core.machine()["isas"]) in result.stderr


def test_crc32c_gives_the_check_value_and_continues() -> None:
    assert _core.crc32c(b"123456789") == 0xE3069283
    assert _core.crc32c(b"56789", _core.crc32c(b"1234")) == 0xE3069283
    assert _core.crc32c(b"") == 0
    assert _core.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert _core.crc32c(b"\xff" * 32) == 0x62A8AB43

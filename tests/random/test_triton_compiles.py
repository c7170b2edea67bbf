"""The kernels compile to machine code for two GPU generations, without a GPU; no import loads Triton."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from slt_infer.kernels import random

ADDRESS = {"k0": "i64", "k1": "i64", "layer": "i64"}
FREEZE = {"free": "*i32", "locked": "*i32", "prune": "i32", "lock": "i32", "fan_in": "i32",
          "row_blocks": "i32", "block0": "i32", "blocks": "i32"} | ADDRESS
KERNELS = [
    (random.plane_kernel,
     {"out": "*i32", "stream": "i32", "generation": "i32", "plane": "i32", "block0": "i32", "blocks": "i32"}
     | ADDRESS,
     {}),
    (random.freeze_kernel, FREEZE, {"bits": 3, "law": "bernoulli"}),
    (random.freeze_kernel, FREEZE, {"bits": 13, "law": "mixed"}),
    (random.words_kernel, {"out": "*i32", "counters": "*i32", "keys": "*i32", "count": "i32"}, {}),
]
for generator, rounds in (("philox4x32", 10), ("threefry4x32", 20)):
    for kernel, types, more in KERNELS:
        constants = {"generator": generator, "rounds": rounds, "size": 128} | more
        types = {name: types.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, types, constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32))
        assert compiled.asm["cubin"][:4] == b"\\x7fELF"
        assert f".target sm_{sys.argv[1]}" in compiled.asm["ptx"]
        # Only Philox needs high halves of products.
        if kernel is not random.freeze_kernel:  # (which divides by the row length)
            assert ("mul.hi.u32" in compiled.asm["ptx"]) == (generator == "philox4x32")
"""


@pytest.mark.parametrize("capability", ["80", "90"])
def test_kernels_compile_ahead_of_time(capability: str, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed (extra: gpu)")
    pytest.importorskip("torch", reason="torch is not installed (extra: search)")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", COMPILE, capability],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


def test_importing_the_package_of_kernels_loads_neither_triton_nor_torch() -> None:
    check = "import sys, slt_infer.kernels; print(sorted({'triton', 'torch'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""What the tests of random bits share: the generators, the available ISAs, Triton's interpreter."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def triton_random() -> ModuleType:
    """slt_infer.kernels.random, its kernels interpreted on the CPU."""
    pytest.importorskip("triton", reason="Triton is not installed (extra: gpu)")
    pytest.importorskip("torch", reason="torch is not installed (extra: search)")
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
    try:
        return importlib.import_module("slt_infer.kernels.random")
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before

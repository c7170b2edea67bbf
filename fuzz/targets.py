"""Builds the fuzz targets of the C++ code: libFuzzer with the address and undefined-behaviour sanitizers.

Needs clang++ and its runtime (on Debian: clang and libclang-rt-VERSION-dev), or CLANGXX to name it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("tile", "round_trip", "layer")
SANITIZE = "address,undefined"
FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-Wno-unknown-warning-option"]


def sources() -> ModuleType:
    """csrc/build.py, which is no package."""
    spec = importlib.util.spec_from_file_location("slt_csrc_build", ROOT / "csrc" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path) -> dict[str, Path]:
    """The programs by target. Raises SystemExit where there is no clang++ or a file does not compile."""
    compiler = os.environ.get("CLANGXX", "clang++")
    if shutil.which(compiler) is None:
        raise SystemExit(f"{compiler} is missing: install clang and libclang-rt-VERSION-dev, or set CLANGXX")
    build = sources()
    flags = [*build.FLAGS, *FLAGS, f"-fsanitize=fuzzer-no-link,{SANITIZE}"]
    library = build.sources(build.host(), bindings=False)
    programs = {}
    for target in TARGETS:
        programs[target] = folder / target
        build.compile_and_link(
            programs[target],
            [*library, ROOT / "fuzz" / f"{target}.cpp"],
            folder / "objects",  # of all targets: the library is compiled once
            compiler,
            flags,
            ["-pthread", f"-fsanitize=fuzzer,{SANITIZE}"],
        )
    return programs

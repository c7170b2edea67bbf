"""What the C++ sources are and how each is compiled: used by setup.py, and by itself for the native tests.

    python csrc/build.py native [--target x86|asan|aarch64]

links csrc/ (without the Python bindings) with tests/native/ and runs the program: the objects of the Python
module (`x86`, which is this machine, whatever it is), those under the address and undefined-behaviour
sanitizers (`asan`), or for aarch64, run by qemu-aarch64. Needs ninja and a C++20 compiler (CXX, or for
aarch64 CXX_AARCH64, may name it).

    python csrc/build.py sanitize

prints the CXXFLAGS with which setup.py makes the objects that `asan` links.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CXX_AARCH64 = os.environ.get("CXX_AARCH64", "aarch64-linux-gnu-g++")

# -ffp-contract=off: results must not depend on where a compiler fuses multiply and add (docs/numerics.md).
FLAGS = ["-O3", "-std=c++20", "-ffp-contract=off", "-fno-math-errno", "-pthread", "-Wall", "-Wextra",
         "-fPIC", "-fvisibility=hidden", f"-I{ROOT / 'csrc'}"]  # fmt: skip
# Only these files may use more than the baseline of their architecture; isa.cpp decides which of them run.
ISA_FLAGS = {
    "ops_avx2.cpp": ["-mavx2", "-mbmi", "-mbmi2", "-mpopcnt"],
    # Version 12 of the compiler warns about its own AVX-512 header without the last flags.
    "ops_avx512.cpp": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd", "-mbmi", "-mbmi2",
                       "-mpopcnt",
                       "-mprefer-vector-width=512", "-Wno-maybe-uninitialized", "-Wno-uninitialized"],
}  # fmt: skip
ISA_FLAGS["ops_avx512vnni.cpp"] = [*ISA_FLAGS["ops_avx512.cpp"], "-mavx512vnni"]
ISA_FLAGS["ops_neondot.cpp"] = ["-march=armv8.2-a+dotprod"]
ISA_MACHINES = {
    "ops_avx2.cpp": "x86_64",
    "ops_avx512.cpp": "x86_64",
    "ops_avx512vnni.cpp": "x86_64",
    "ops_neon.cpp": "aarch64",
    "ops_neondot.cpp": "aarch64",
}
SANITIZE = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]


def host() -> str:
    """This machine as ISA_MACHINES writes it."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def sources(machine: str, bindings: bool) -> list[Path]:
    """Every csrc/*.cpp that `machine` can compile; those named bind* need Python."""
    found = sorted((ROOT / "csrc").glob("*.cpp"))
    found = [path for path in found if ISA_MACHINES.get(path.name, machine) == machine]
    return [path for path in found if bindings or not path.name.startswith("bind")]


def find_ninja() -> str:
    """The ninja of the Python package, or of the system."""
    try:
        import ninja
    except ImportError:
        found = shutil.which("ninja")
        if found is None:
            raise SystemExit("ninja is missing: pip install ninja") from None
        return found
    return str(Path(ninja.BIN_DIR) / "ninja")


def compile_and_link(
    output: Path,
    files: Sequence[Path],
    folder: Path,
    compiler: str,
    flags: Sequence[str],
    link_flags: Sequence[str],
    bind_flags: Sequence[str] = (),
) -> None:
    """Writes folder/build.ninja and runs it: objects in `folder`, linked to `output`; only what changed.

    bind_flags: of the files named bind*. All else is compiled alike for all that share a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "ninja_required_version = 1.8",
        f"builddir = {_escape(folder)}",
        f"cxx = {compiler}",
        "rule compile",
        "  command = $cxx -MMD -MF $out.d $flags -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $in",
        "rule link",
        f"  command = $cxx $in {shlex.join(link_flags)} -o $out",
        "  description = link $out",
    ]
    objects = []
    for path in files:
        target = _escape(folder / f"{path.parent.name}_{path.stem}.o")
        objects.append(target)
        lines.append(f"build {target}: compile {_escape(path)}")
        own = bind_flags if path.name.startswith("bind") else ISA_FLAGS.get(path.name, [])
        lines.append(f"  flags = {shlex.join([*flags, *own])}".replace("$", "$$"))
    lines.append(f"build {_escape(output)}: link {' '.join(objects)}")
    lines.append(f"default {_escape(output)}")
    script = folder / "build.ninja"
    text = "\n".join(lines) + "\n"
    if not script.exists() or script.read_text() != text:
        script.write_text(text)
    output.parent.mkdir(parents=True, exist_ok=True)
    jobs = os.environ.get("MAX_JOBS")
    command = [find_ninja(), "-f", str(script), *(["-j", jobs] if jobs else [])]
    if subprocess.run(command).returncode:
        raise SystemExit(f"the C++ build failed: {shlex.join(command)}")


def _escape(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def check_isa_objects(folder: Path) -> None:
    """Refuses code with AVX or NEON flags that the linker could take for all machines: weak symbols."""
    for path in sorted(folder.glob("csrc_ops_*.o")):
        symbols = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
        weak = [line for line in symbols.splitlines() if line[17:18] in tuple("WVu")]
        if weak:
            raise SystemExit(f"{path.name} must hold no inline functions of others:\n" + "\n".join(weak))


def build_native(target: str) -> list[str]:
    """Builds the native test program; gives the command that runs it."""
    machine, compiler, flags, link_flags = host(), os.environ.get("CXX", "g++"), [*FLAGS], ["-pthread"]
    built = ROOT / "build"
    folder, run = built / "core", []
    if target == "asan":
        folder = built / "sanitize" / "core"
        flags += SANITIZE
        link_flags += SANITIZE
    elif target == "aarch64":
        machine, compiler, folder = "aarch64", CXX_AARCH64, built / "native" / "aarch64"
        link_flags += ["-static"]
        run = [] if host() == "aarch64" else ["qemu-aarch64"]
    files = sources(machine, bindings=False) + sorted((ROOT / "tests" / "native").glob("*.cpp"))
    program = built / "native" / target / "slt_tests"
    compile_and_link(program, files, folder, compiler, flags, link_flags)
    if target == "x86":
        check_isa_objects(folder)
    return [*run, str(program), str(ROOT / "tests" / "vectors")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Build and run the native tests.")
    parser.add_argument("what", choices=["native", "sanitize"])
    parser.add_argument("--target", choices=["x86", "asan", "aarch64"], default="x86")
    arguments = parser.parse_args()
    if arguments.what == "sanitize":
        print(shlex.join(SANITIZE))
        return 0
    command = build_native(arguments.target)
    print(shlex.join(command), flush=True)
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())

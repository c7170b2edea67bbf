"""The Python tests on aarch64, of which this machine need not be one: NEON with and without dotprod, in qemu.

    python csrc/emulate.py [PYTEST ARGUMENTS]

makes build/emulated/, a system of Debian packages and wheels for aarch64 (once; remove it to make it
again), compiles the package into it as a wheel is compiled, and runs pytest there. The arguments may name
what lies in tests/; without any, whole int8 networks run. Nothing is installed on this machine and no root
is needed, but a Debian 12 with g++-aarch64-linux-gnu and qemu-user is.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import build

FOLDER = build.ROOT / "build" / "emulated"
PACKAGES = ["python3-minimal", "libpython3-stdlib", "libpython3-dev", "libstdc++6"]
WHEELS = ["numpy", "msgspec", "typer", "rich", "pillow", "pytest", "hypothesis"]
NETWORKS = ["tests/runtime/test_int8_networks.py", "tests/runtime/test_int8_plan.py"]

# apt for another architecture, with lists and a database of its own.
APT = f"""\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
Debug::NoLocking "1";
Dir::Cache "{FOLDER}/cache";
Dir::State "{FOLDER}";
Dir::State::status "{FOLDER}/status";
"""


def run(*command: str | Path, **options: dict[str, str]) -> None:
    """The command; SystemExit where it fails."""
    if subprocess.run([str(part) for part in command], env=options.get("env")).returncode:
        raise SystemExit(f"failed: {shlex.join(str(part) for part in command)}")


def system() -> Path:
    """The folder of Debian's packages and, in site/, the wheels."""
    root, stamp = FOLDER / "root", FOLDER / "made"
    if stamp.exists():
        return root
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial"):
        (FOLDER / name).mkdir(parents=True)
    (FOLDER / "status").touch()
    (FOLDER / "apt.conf").write_text(APT)
    environment = {**os.environ, "APT_CONFIG": str(FOLDER / "apt.conf")}
    run("apt-get", "update", "-qq", env=environment)
    run("apt-get", "install", "-qq", "--download-only", "--no-install-recommends", *PACKAGES, env=environment)
    for package in sorted((FOLDER / "cache" / "archives").glob("*.deb")):
        run("dpkg-deb", "--extract", package, root)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
        "--target",
        root / "site",
    ]
    platforms = [f"--platform=manylinux{name}_aarch64" for name in ("2014", "_2_17", "_2_28")]
    run(*pip, f"--python-version={python_of(root)[6:]}", *platforms, *WHEELS)
    stamp.touch()
    return root


def python_of(root: Path) -> str:
    """The name of the system's interpreter, such as python3.11."""
    (found,) = (root / "usr" / "include").glob("python3.*")
    return found.name


def install(root: Path) -> None:
    """The package as it is now, and its tests."""
    import pybind11

    os.chdir(build.ROOT)
    python, site, include = python_of(root), root / "site", root / "usr" / "include"
    setup = [sys.executable, "setup.py", "--quiet"]
    run(*setup, "build_py", "--build-lib", site, "dist_info", "--output-dir", site)
    shutil.rmtree(root / "tests", ignore_errors=True)
    shutil.copytree("tests", root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", root)
    build.compile_and_link(
        output=site / "slt_infer" / f"_core.cpython-{python[6:].replace('.', '')}-aarch64-linux-gnu.so",
        files=build.sources("aarch64", bindings=True),
        folder=FOLDER / "core",
        compiler=build.CXX_AARCH64,
        flags=build.FLAGS,
        link_flags=["-shared", "-pthread"],
        bind_flags=[f"-I{path}" for path in (pybind11.get_include(), include / python, include)],
    )


def main() -> int:
    root = system()
    install(root)
    arguments = ["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *(sys.argv[1:] or NETWORKS)]
    command = ["qemu-aarch64", "-L", str(root), str(root / "usr" / "bin" / python_of(root)), *arguments]
    print(shlex.join(command), flush=True)
    paths = {"PYTHONPATH": str(root / "site"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env={**os.environ, **paths}, cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Who may import whom: the rule that keeps search and runtime apart and `import slt_infer` light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = {"errors", "ticket"}
# What the modules of each part may import from the others.
ALLOWED = {
    "errors": set(),
    "ticket": {"errors"},
    "reference": {"errors", "ticket"},
    "reference_int8": {"ticket", "reference"},
    "quantise": BASE,
    "files": set(),
    "freeze": BASE,
    "models": BASE,
    "data": {"errors"},
    "codec": {*BASE, "freeze", "_core"},
    "format": {*BASE, "codec", "files", "quantise", "_core"},
    "report": {*BASE, "codec", "format"},
    "runtime": {
        *(*BASE, "freeze", "codec", "format", "quantise", "reference", "reference_int8", "kernels", "_core")
    },
    "search": {*BASE, "files", "freeze", "models", "data", "_core"},
    "hw": {*BASE, "codec", "format"},
    "kernels": BASE,
}
TOP = {"errors", "ticket", "format", "codec", "runtime", "freeze"}  # what slt_infer/__init__.py may import
TOOLS = {*ALLOWED, "tools", "_core"}
HEAVY = ("torch", "triton", "matplotlib", "pyarrow", "sklearn")


def part_of(path: Path) -> str:
    """The part a module belongs to: kernels and tools lie in the root, the rest in slt_infer/."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "slt_infer" else parts[0]


def modules() -> list[Path]:
    return sorted(
        path for folder in ("slt_infer", "kernels", "tools") for path in (ROOT / folder).rglob("*.py")
    )


def imported(path: Path) -> set[str]:
    """The parts of slt_infer that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            assert package not in ("kernels", "tools", "csrc", "tests"), (
                f"{path} imports {name}, not installed so"
            )
            if package == "slt_infer":
                found.add(rest.partition(".")[0])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_what_it_may(path: Path) -> None:
    part = part_of(path)
    allowed = TOP if part == "__init__" else TOOLS if part == "tools" else ALLOWED[part] | {part}
    assert imported(path) <= allowed


def test_runtime_and_search_never_meet() -> None:
    """Not even through others."""
    reach = {part: set(direct) for part, direct in ALLOWED.items()}
    for _ in reach:
        reach = {
            part: near.union(*(reach.get(other, set()) for other in near)) for part, near in reach.items()
        }
    assert "search" not in reach["runtime"]
    assert "runtime" not in reach["search"]


def test_import_is_light() -> None:
    program = f"import sys, slt_infer; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_packages_are_all_installed() -> None:
    """pyproject.toml names every package that is there, and none that is not."""
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT).parts for path in modules() if path.name == "__init__.py"}
    assert set(listed) == {".".join(f if f[0] == "slt_infer" else ("slt_infer", *f)) for f in folders}

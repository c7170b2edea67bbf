"""slt_infer/_core.pyi says what the compiled module has: the same names, the same parameters."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from slt_infer import _core

STUB = Path(__file__).parents[2] / "slt_infer" / "_core.pyi"


def of_stub(body: list[ast.stmt], prefix: str = "") -> dict[str, list[str]]:
    """Qualified name to parameter names; a property has none."""
    found: dict[str, list[str]] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found.update(of_stub(node.body, f"{node.name}."))
        elif isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            found[prefix + node.name] = [] if node.decorator_list else names
    return found


def of_module(owner: Any, prefix: str = "") -> dict[str, list[str]]:
    """The same from the signatures that pybind11 writes as the first line of a docstring."""
    found: dict[str, list[str]] = {}
    for name, value in vars(owner).items():
        if inspect.isclass(value):
            found.update(of_module(value, f"{name}."))
        elif isinstance(value, property):
            found[prefix + name] = []
        elif name == "__init__" or (callable(value) and not name.startswith("_")):
            signature = value.__doc__.split("\n")[0].split(" -> ")[0]
            found[prefix + name] = re.findall(r"(?:\(|, )(\w+)(?=:)", signature)
    return found


def test_stub_agrees_with_the_module() -> None:
    assert of_stub(ast.parse(STUB.read_text("utf-8")).body) == of_module(_core)

"""The commands: help, an example, bad usage, refusals; and the shared conventions of tools/cli.py."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slt_infer
from slt_infer.errors import TicketError
from slt_infer.tools import cli

ROOT = Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]


def run(main: Any, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def main_of(script: str) -> Any:
    module, _, name = SCRIPTS[script].partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_what_it_does_with_an_example(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = main_of(script)
    assert run(main, "--help") == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert re.search(rf"Example:\s+{script} ", text)


@pytest.mark.parametrize("script", SCRIPTS)
def test_version(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main_of(script), "--version") == 0
    assert capsys.readouterr().out == f"slt-infer {slt_infer.__version__}\n"


def test_help_keeps_what_is_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main_of("slt-inspect"), "--help") == 0
    assert "[out, K]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_bad_usage_is_2(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main_of(script), "--no-such-flag") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no-such-flag" in err


@pytest.mark.parametrize("script", ["slt-run", "slt-inspect"])
def test_a_file_that_is_not_there_is_refused(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["no-such-file.slt", "--json"] + (["--data", "digits"] if script == "slt-run" else [])
    assert run(main_of(script), *arguments) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"code", "message", "where"}
    assert "no-such-file.slt" in error["where"] + error["message"]


def test_every_code_of_a_refusal_is_in_the_docs() -> None:
    sources = [file for folder in ("slt_infer", "tools", "kernels") for file in (ROOT / folder).rglob("*.py")]
    made = re.compile(r'Error\(\s*"([a-z0-9-]+)"')
    codes = {code for file in sources for code in made.findall(file.read_text("utf-8"))}
    pages = [(ROOT / "docs" / name).read_text("utf-8") for name in ("format.md", "runtime.md")]
    told = {
        code
        for page, start in zip(pages, ("The codes of this", "## Codes"), strict=True)
        for code in re.findall(r"`([a-z0-9-]+)`", page[page.index(start) :])
    }
    assert len(codes) > 50
    assert codes <= told


def show(answer: cli.Answer) -> str:
    return f"x is {answer['x']}"


@cli.command("slt-example", example="slt-example --x 3", show=show)
def example(x: int = 1, fault: str = "", as_json: cli.Json = False) -> cli.Answer:
    """Answers x."""
    print("noise")
    if fault == "ticket":
        raise TicketError("bad-crc", "the sums differ", "index", 40)
    if fault == "file":
        Path("no-such-folder/file").read_bytes()
    if fault == "usage":
        cli.usage("x is wrong")
    if fault == "interrupt":
        raise KeyboardInterrupt
    return {"x": np.int64(x), "array": np.arange(2.0), "path": Path("a"), "nan": float("nan")}


def test_json_is_one_object_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example, "--x", "3", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"x": 3, "array": [0.0, 1.0], "path": "a", "nan": None}
    assert err == "noise\n"


def test_text_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example) == 0
    assert capsys.readouterr().out == "x is 1\n"


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example, "--fault", "ticket", "--json") == 1
    error = {"code": "bad-crc", "message": "the sums differ", "where": "index at byte 40"}
    assert json.loads(capsys.readouterr().out) == {"error": error}
    assert run(example, "--fault", "ticket") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Error: index at byte 40: the sums differ" in err
    assert run(example, "--fault", "file", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error == {"code": "file", "message": "No such file or directory", "where": "no-such-folder/file"}


def test_usage_and_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example, "--fault", "usage") == 2
    assert "x is wrong" in capsys.readouterr().err
    assert run(example, "--fault", "interrupt", "--json") == 130
    assert capsys.readouterr().out == ""


def test_byte_count() -> None:
    sizes = {"123": 123, "123B": 123, "64MB": 64_000_000, "64 MiB": 2**26, "1g": 10**9, "2Ki": 2048}
    assert {text: cli.byte_count(text) for text in sizes} == sizes
    for text in ("", "MB", "-1", "1.5GB", "1XB", "1iB", "1e9"):
        with pytest.raises(cli.typer.BadParameter):
            cli.byte_count(text)


@pytest.mark.parametrize("text", ["3x32", "3x32x", "0x1x1", "axbxc", "3x32x32x1", "-3x1x1"])
def test_image_shape(text: str) -> None:
    assert cli.image_shape("3x32x16") == (3, 32, 16)
    with pytest.raises(cli.typer.BadParameter):
        cli.image_shape(text)

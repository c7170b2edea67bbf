"""What all commands share: `--json`, exit codes, refusals, progress, and the flags they have in common.

A command is a typer function that returns the JSON object it answers with, wrapped by `command`:

    @cli.command("slt-inspect", example="slt-inspect net.slt --json", show=table)
    def main(file: cli.TicketFile, as_json: cli.Json = False) -> cli.Answer:
        "Verifies a packed ticket and prints what is inside."
        return describe(load(file))

- stdout carries the answer alone: with `--json` one JSON object, else what `show` makes of that object.
  Whatever else is printed meanwhile, by this program or a library, goes to stderr.
- Exit codes: 0 success; 1 a refused input, `{"error": {"code", "message", "where"}}` with `--json`, else in
  red on stderr; 2 bad usage; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol, get_args

import msgspec
import numpy as np
import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from slt_infer.errors import SltError
from slt_infer.freeze import Rule as _Rule
from slt_infer.ticket import FreezeLaw as _FreezeLaw
from slt_infer.tools import tables

Answer = dict[str, Any]
UNLIMITED = 10_000  # columns where no terminal folds lines


def one_of(*choices: str) -> Callable[[str | None], str | None]:
    """A callback that takes these values of a flag only; others are bad usage."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in choices:
            usage(f"one of {', '.join(choices)}, not {value!r}")
        return value

    return check


def _print_version(given: bool) -> None:
    if given:
        print(f"slt-infer {version('slt-infer')}")
        raise typer.Exit(0)


def byte_count(text: str) -> int:
    """The bytes of `1000000`, `64MB` (millions) or `64MiB` (2^20); k, M, G, T, in either case, with or
    without the B.
    """
    match = re.fullmatch(r"(\d{1,18})\s*(?:([kmgt])(i?))?b?", text.strip().lower())
    if not match:
        usage(f"a number of bytes such as 1000000, 64MB or 64MiB, not {text!r}")
    number, unit, binary = match.groups()
    return int(number) * (1024 if binary else 1000) ** (" kmgt".index(unit) if unit else 0)


# Flags that several commands have. Their meaning is the same everywhere, so they are written once.
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")]
TicketFile = Annotated[Path, typer.Argument(metavar="FILE", help="A packed ticket (.slt).")]
Data = Annotated[
    str, typer.Option("--data", metavar="NAME|PATH", help="Data set name, or a file or folder of images.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds the data set.")
]
Arch = Annotated[
    str, typer.Option("--arch", metavar="NAME", help="Network, such as conv4 or mlp-784-300-100-10.")
]
Sparsity = Annotated[
    float, typer.Option("--sparsity", help="Share of all weights to remove.", min=0.0, max=1.0)
]
Prune = Annotated[float, typer.Option("--prune", help="Share of weights frozen as pruned.", min=0.0, max=1.0)]
Lock = Annotated[float, typer.Option("--lock", help="Share of weights frozen as locked.", min=0.0, max=1.0)]
Frozen = Annotated[
    float | None,
    typer.Option(
        help="Instead of --prune and --lock: their sum, placed around the sparsity.", min=0.0, max=1.0
    ),
]
Rule = Annotated[
    str, typer.Option("--rule", help="Layer ratios: uniform, erk or epl.", callback=one_of(*get_args(_Rule)))
]
FreezeLaw = Annotated[
    str,
    typer.Option(
        "--freeze-law",
        help="bernoulli, or mixed: two generator calls a block.",
        callback=one_of(*get_args(_FreezeLaw)),
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random bit.", min=0, max=2**64 - 1)]
Generator = Annotated[
    str, typer.Option("--generator", help="philox4x32 or threefry4x32, or either with -ROUNDS.")
]
InputSize = Annotated[str | None, typer.Option("--input", metavar="CxHxW", help="Shape of one input image.")]
Classes = Annotated[int | None, typer.Option("--classes", help="Number of classes.", min=1)]
Threads = Annotated[int, typer.Option("--threads", help="CPU threads.", min=1)]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        "--max-memory",
        metavar="BYTES",
        parser=byte_count,
        help="Refuse a file whose reading may take more memory, at most 8.4 MB and 16 times the file; "
        "64MB and 64MiB are understood.",
    ),
]
Task = Annotated[
    int | None,
    typer.Option("--task", metavar="N", help="Of a ticket of several tasks this one, from 0.", min=0),
]
Version = Annotated[
    bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
]


class Main(Protocol):
    """What `[project.scripts]` names: runs the command and exits. `app` is its typer application."""

    app: typer.Typer

    def __call__(self, arguments: list[str] | None = None) -> NoReturn: ...


def command(
    name: str, *, example: str | list[str], show: Callable[[Answer], RenderableType | None]
) -> Callable[[Callable[..., Answer]], Main]:
    """Makes a command of a function that returns the JSON object it answers with.

    The function takes typer parameters, among them `as_json: cli.Json = False`; its docstring is the help
    text and the examples close it, each on a line of its own. `show` turns the answer into what a person
    reads (None: nothing); a string is written as it is, so what comes from a file needs tables.plain.
    """
    # \b: lines stay as they are
    examples = [example] if isinstance(example, str) else example
    epilog = "\b\n" + "\n".join(["Example:", *(f"  {line}" for line in examples)])

    def decorate(function: Callable[..., Answer]) -> Main:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            _answer(lambda: function(**values), show, bool(values.get("as_json")))

        # plain text: in rich markup [out, K] would be a style
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        app.command(name, epilog=epilog, context_settings=settings)(run)

        def main(arguments: list[str] | None = None) -> NoReturn:
            app(arguments, prog_name=name)
            raise SystemExit(0)

        main.app = app  # type: ignore[attr-defined]
        functools.update_wrapper(main, function, assigned=("__module__", "__doc__"))
        return main  # type: ignore[return-value]

    return decorate


def _answer(
    call: Callable[[], Answer], show: Callable[[Answer], RenderableType | None], as_json: bool
) -> None:
    stdout = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = call()
            shown = None if as_json else show(answer)
    except BrokenPipeError:
        raise
    except (SltError, OSError, MemoryError, RuntimeError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        if as_json:
            error_object = {"code": refusal.code, "message": _message(refusal), "where": refusal.where}
            stdout.write(to_json({"error": error_object}))
        else:
            Console(stderr=True, soft_wrap=True).print(
                Text.assemble("Error: ", tables.plain(str(refusal)), style="bold red")
            )
        raise typer.Exit(1) from None
    if as_json:
        stdout.write(to_json(answer))
    elif isinstance(shown, str):
        stdout.write(shown + "\n")
    elif shown is not None:
        Console(file=stdout, width=None if stdout.isatty() else UNLIMITED).print(shown)


def _refusal(error: Exception) -> SltError | None:
    """The error as a user's refusal: a file that cannot be read, a full disk, too little memory, a wrong
    SLT_ISA. None for a fault of the program's own.
    """
    if isinstance(error, SltError):
        return error
    if isinstance(error, OSError):
        return SltError("file", error.strerror or str(error), str(error.filename or ""))
    if isinstance(error, MemoryError):
        return SltError("memory", "the machine has not enough memory for this")
    if str(error).startswith("SLT_ISA"):
        return SltError("unknown-isa", str(error), "environment")
    return None


def _message(refusal: SltError) -> str:
    return str(refusal).removeprefix(f"{refusal.where}: ") if refusal.where else str(refusal)


def to_json(value: Any) -> str:
    """One line of JSON. NumPy numbers and arrays and paths are taken; NaN and infinity become null."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode() + "\n"
    except UnicodeEncodeError:  # a file name that is not UTF-8: escaped, as JSON allows
        return json.dumps(value, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def note(text: str) -> None:
    """A line for a person, or a few, on stderr."""
    lines = map(tables.plain, text.split("\n"))
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text("\n").join(lines))


@contextlib.contextmanager
def progress(fields: str = "") -> Iterator[Progress]:
    """A progress bar with elapsed and remaining time on stderr; nothing where stderr is no terminal.

    `fields` is a template over the task's fields, such as "{task.fields[rate]:.0f} images/s".
    """
    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    columns += [TimeRemainingColumn()] + ([TextColumn(fields)] if fields else [])
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield bar


def count(number: int, what: str) -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def differ(number: int) -> str:
    """`1 prediction differs`, `2 predictions differ`."""
    return f"{count(number, 'prediction')} differ{'s' if number == 1 else ''}"


def usage(message: str) -> NoReturn:
    """Ends the command as bad usage (exit code 2)."""
    raise typer.BadParameter(message)


def apart(read: Path, written: Path | None) -> None:
    """Usage error where the file to write is the one that is read."""
    if written is not None and written.exists() and read.exists() and written.samefile(read):
        usage(f"{written} is the file that is read: give another to write")


def image_shape(text: str) -> tuple[int, int, int]:
    """The (channels, height, width) of a `--input CxHxW`."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        usage(f"--input wants CxHxW, such as 3x32x32, not {text!r}")
    channels, height, width = map(int, parts)
    return channels, height, width

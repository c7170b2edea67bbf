"""slt-sim: cycles, off-chip bytes and energy of a network on a described accelerator."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Group, RenderableType

from slt_infer import hw
from slt_infer.files import write_atomically
from slt_infer.format import load
from slt_infer.hw import trace as traces
from slt_infer.hw.explain import explain
from slt_infer.hw.html import report, sweep_report
from slt_infer.hw.sweep import sweep
from slt_infer.tools import cli, sim_tables, tables

MODELS = {"events": hw.simulate, "closed": hw.closed_form}

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A packed ticket (.slt); SCALE-Sim's table of layers (.csv) or .onnx, dense."
    ),
]
Machine = Annotated[
    str, typer.Option("--hw", metavar="PRESET|FILE", help="A preset (--presets lists them) or a TOML file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the machine: dram.bytes_per_cycle=8."),
]
Scheme = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        help=f"How weights are stored: {', '.join(hw.SCHEMES)}; default what the machine was made for.",
        callback=cli.one_of(*hw.SCHEMES),
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", help="events (tile by tile) or closed (the closed form).", callback=cli.one_of(*MODELS)
    ),
]


@cli.command(
    "slt-sim",
    example=[
        "slt-sim net.slt --hw successor --compare",
        "slt-sim sweep net.slt --hw successor --over dram.bytes_per_cycle=4,8,16",
        "slt-sim explain net.slt stem --hw successor",
        "slt-sim trace net.slt --hw successor --form dramsim3 -o net.trace",
    ],
    show=sim_tables.show,
)
def report_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A packed ticket (.slt); SCALE-Sim's table of layers (.csv) or .onnx, dense."
        ),
    ] = None,
    hardware: Machine = "hiddenite-like",
    change: Set = None,
    scheme: Scheme = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Every way to store the network, on the same machine.")
    ] = False,
    model: Model = "events",
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: a row per layer, then one for the whole, per scheme.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a report with plots, one file, offline."),
    ] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the machines that come along.")] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the machine's file, to start one of your own from.")
    ] = False,
    task: cli.Task = None,
    max_memory: cli.MaxMemory = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Predicts cycles, off-chip traffic and energy of one image through a network on a described machine.

    Counts are the ticket's own: real densities, real coded bytes. docs/accelerator.md has the model, its
    units and what it leaves out. slt-sim sweep, explain and trace have --help of their own.
    """
    if presets:
        machines = [hw.load_hardware(name) for name in hw.preset_names()]
        return {
            "presets": [
                {"name": m.name, "elements": m.array.elements, "summary": m.summary} for m in machines
            ]
        }
    if toml:
        return {"toml": hw.hardware_text(hardware)}
    if file is None:
        cli.usage("give a FILE, --presets or --toml")
    if compare and scheme:
        cli.usage("--compare has every scheme: leave --scheme out")
    cli.apart(file, html)
    machine = hw.load_hardware(hardware, _changes(change))
    workload = _workload(file, task, max_memory)
    run = MODELS[model]
    results: dict[str, hw.Result | str]
    if compare:
        results = hw.compare(workload, machine, run)
    else:
        chosen = scheme or hw.best_scheme(workload, machine)
        results = {chosen: run(workload, machine, chosen)}
    answer = {
        "file": str(file),
        "network": workload.name,
        "hardware": hw.described(machine),
        "area": hw.area(machine),
        "model": model,
        "macs": workload.macs,
        "weights": workload.weights,
        **hw.side_by_side(results),
    }
    if html is not None:
        _write(html, report(answer))
        answer["report"] = str(html)
    return {**answer, "csv": sim_tables.to_csv(answer)} if as_csv else answer


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _workload(file: Path, task: int | None, max_memory: int | None) -> hw.Workload:
    if file.suffix == ".csv":
        return hw.load_topology(file)
    if file.suffix == ".onnx":
        return hw.load_onnx(file)
    return hw.workload_of(load(file, max_memory=max_memory).task(task or 0))


def _changes(given: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE, the value as TOML has it, or else a text."""
    changes = {}
    for text in given or []:
        key, sign, value = text.partition("=")
        if not sign or not key or not value:
            cli.usage(f"--set wants KEY=VALUE, not {text!r}")
        changes[key.strip()] = _value(value.strip())
    return changes


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


# -- slt-sim sweep -----------------------------------------------------------------------------------------


@cli.command(
    "slt-sim sweep",
    example="slt-sim sweep net.slt --over dram.bytes_per_cycle=4,8,16 --over activations.banks=4,16",
    show=sim_tables.show_sweep,
)
def sweep_command(
    file: File,
    over: Annotated[
        list[str],
        typer.Option("--over", metavar="KEY=V1,V2", help="A parameter of the machine and its values."),
    ],
    hardware: Machine = "hiddenite-like",
    change: Set = None,
    scheme: Scheme = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the points as a plot, one file, offline."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes.", min=1)] = os.cpu_count() or 1,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Ray's workers instead of processes: local starts it here, auto finds it, or HOST:PORT.",
        ),
    ] = None,
    task: cli.Task = None,
    max_memory: cli.MaxMemory = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Runs the closed form at every combination of the parameters' values and marks the best in cycles and
    energy.
    """
    cli.apart(file, html)
    axes = {}
    for text in over:
        key, sign, values = text.partition("=")
        if not sign or not values:
            cli.usage(f"--over wants KEY=V1,V2, not {text!r}")
        if key.strip() in axes:
            cli.usage(f"--over has {key.strip()} twice: give all its values at once")
        axes[key.strip()] = [_value(value.strip()) for value in values.split(",")]
    fixed = _changes(change)
    points = sweep(_workload(file, task, max_memory), hardware, axes, scheme, jobs, fixed, ray)
    answer = {"file": str(file), "hardware": hardware, "parameters": list(axes), "points": points}
    if html is not None:
        _write(html, sweep_report(answer))
        answer["report"] = str(html)
    return answer


# -- slt-sim explain ---------------------------------------------------------------------------------------


@cli.command(
    "slt-sim explain",
    example="slt-sim explain net.slt stem --hw successor",
    show=lambda answer: Group(*map(tables.plain, answer["text"])),
)
def explain_command(
    file: File,
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="A layer's name.")],
    hardware: Machine = "hiddenite-like",
    change: Set = None,
    scheme: Scheme = None,
    model: Model = "events",
    task: cli.Task = None,
    max_memory: cli.MaxMemory = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Says why a layer takes the time that it takes, and what would help."""
    machine = hw.load_hardware(hardware, _changes(change))
    workload = _workload(file, task, max_memory)
    return explain(MODELS[model](workload, machine, scheme or hw.best_scheme(workload, machine)), layer)


# -- slt-sim trace -----------------------------------------------------------------------------------------


def show_trace(answer: dict[str, Any]) -> RenderableType:
    what = "layers" if answer["form"] == "layers" else f"requests of {answer['burst_bytes']} bytes"
    return tables.plain(f"wrote {answer['file']}: {answer['lines']:,} {what}")


@cli.command(
    "slt-sim trace",
    example=[
        "slt-sim trace net.slt --form ramulator -o net.trace",
        "slt-sim trace net.slt --form layers -o net.csv",
    ],
    show=show_trace,
)
def trace_command(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")],
    hardware: Machine = "hiddenite-like",
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="ramulator (LD and ST, for Ramulator 2), dramsim3, or layers (SCALE-Sim's table).",
            callback=cli.one_of("ramulator", "dramsim3", "layers"),
        ),
    ] = "ramulator",
    change: Set = None,
    scheme: Scheme = None,
    task: cli.Task = None,
    max_memory: cli.MaxMemory = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Writes the DRAM requests of the event model for a simulator of DRAM, or the layers for SCALE-Sim."""
    cli.apart(file, out)
    machine = hw.load_hardware(hardware, _changes(change))
    workload = _workload(file, task, max_memory)
    if form == "layers":
        lines = list(traces.layers(workload))
    else:
        _, asked = traces.requests(workload, machine, scheme or hw.best_scheme(workload, machine))
        lines = list((traces.ramulator if form == "ramulator" else traces.dramsim3)(asked))
    _write(out, "".join(f"{line}\n" for line in lines))
    count = len(lines) - (form == "layers")
    return {"file": str(out), "form": form, "lines": count, "burst_bytes": machine.dram.burst_bytes}


OTHERS = {"sweep": sweep_command, "explain": explain_command, "trace": trace_command}


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command named by the first word, else the report."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in OTHERS:
        OTHERS[given[0]](given[1:])
    report_command(given)

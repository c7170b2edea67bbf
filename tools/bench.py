"""slt-bench: how fast this machine is at what a ticket needs."""

from __future__ import annotations

import os
import platform
import shlex
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slt_infer import _core
from slt_infer.tools import bench_codec, cli

TOPICS = ("codec",)


def show(answer: dict[str, Any]) -> RenderableType:
    columns = ("mask", "mode", "isa", "decode", "encode", "rows", "bits", "iid", "prior")
    codec = _table("masks: Gbit/s of free weights, Gpositions/s, bits per free weight", *columns)
    for row in answer["results"]:
        mode = row["peer"] or f"{row['mode']} {row['planes'] or ''}".strip()
        keys = ("decode_bits_per_s", "encode_bits_per_s", "positions_per_s")
        rates = ["" if row[key] is None else f"{row[key] / 1e9:.3g}" for key in keys]
        keys = ("bits_per_free_weight", "entropy_bits_per_free_weight", "prior_entropy_bits_per_free_weight")
        sizes = ["" if row[key] is None else f"{row[key]:.4f}" for key in keys]
        codec.add_row(row["mask"], mode, row["isa"] or "", *rates, *sizes)
    planes = _table("planes: Gweights/s", "plane", "generator", "isa", "weights/s")
    for row in answer["planes"]:
        rate = f"{row['weights_per_s'] / 1e9:.3g}"
        planes.add_row(row["plane"], row["generator"], row["isa"], rate)
    notes = [f"not installed: {peer}" for peer in answer["missing"]]
    notes += [
        f"quoted: {row['peer']} decodes {row['decode_bits_per_s'] / 1e9:.3f} Gbit/s, "
        f"{row['size_over_entropy']:.3f} x iid"
        for row in answer["quoted"]
    ]
    machine = answer["machine"]
    head = f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load']:.1f}; {answer['command']}"
    return Group(Text(head), codec, planes, *map(Text, notes))


def _table(title: str, *columns: str) -> Table:
    """Names to the left, numbers to the right, no lines: it must fit into 80 columns."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), title_style="bold")
    for column in columns:
        left = column in ("mask", "mode", "plane", "generator", "isa")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


@cli.command("slt-bench", example="slt-bench codec --mask dense --isa avx512 --json", show=show)
def main(
    topic: Annotated[str, typer.Argument(metavar="codec", help="What to measure.")],
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="NAME", help=f"Of {', '.join(bench_codec.MASKS)}; default all."),
    ] = None,
    isa: Annotated[
        list[str] | None,
        typer.Option("--isa", metavar="ISA", help="Instruction sets; default all that run here."),
    ] = None,
    threads: cli.Threads = 1,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long to repeat; three rounds at least.", min=0.0)
    ] = 30.0,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Measures the mask codec and the random planes: medians of repeats in turn.

    decode: free weights per second, score planes made anew where a mask needs them.
    encode: with densities or intervals known. rows: positions per second of whole
    rows, from tiles to kept bits and signs. Peers code the same bits: constriction,
    zstd -19, xz -9e. One thread: its CPU time; several: elapsed time, and each does
    the whole for itself.
    """
    known = {"topic": TOPICS, "--mask": tuple(bench_codec.MASKS), "--isa": tuple(_core.machine()["isas"])}
    for where, given in (("topic", [topic]), ("--mask", mask or []), ("--isa", isa or [])):
        for name in given:
            if name not in known[where]:
                cli.usage(f"{where}: no {name!r}; there are: {', '.join(known[where])}")
    masks, isas = list(mask or known["--mask"]), list(isa or known["--isa"])
    load = os.getloadavg()[0]
    results, planes, missing = bench_codec.measure(masks, isas, threads, seconds, bench_codec.FREE)
    flags = [flag for name in mask or [] for flag in ("--mask", name)]
    flags += [flag for name in isa or [] for flag in ("--isa", name)]
    flags += ["--threads", str(threads), "--seconds", f"{seconds:g}"]
    return {
        "machine": {**_core.machine(), "cpus": os.cpu_count(), "load": load, "system": platform.platform()},
        "command": shlex.join(["slt-bench", topic, *flags]),
        "clock": bench_codec.clock_of(threads).__name__,
        "results": results,
        "planes": planes,
        "missing": missing,
        "quoted": bench_codec.QUOTED,
    }

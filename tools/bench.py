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
from slt_infer.tools import bench_codec, bench_networks, cli

TOPICS = ("codec", "networks")
NETWORK_COLUMNS = ("engine", "type", "mode", "median", "min", "max", "ratio")


def show(answer: dict[str, Any]) -> RenderableType:
    machine = answer["machine"]
    head = f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load']:.1f}; {answer['command']}"
    return Group(Text(head), *(_codec(answer) if "planes" in answer else _networks(answer)))


def _networks(answer: dict[str, Any]) -> list[RenderableType]:
    peers = ", ".join(f"{name} {version}" for name, version in answer["versions"].items())
    shown: list[RenderableType] = [Text(peers)]
    for name in dict.fromkeys(row["ticket"] for row in answer["results"]):
        rows = [row for row in answer["results"] if row["ticket"] == name]
        head = (
            f"{name}: density {rows[0]['density']:.3g}, of multiply-accumulates {rows[0]['mac_density']:.3g}"
        )
        table = _table("ms; ratio to OpenVINO int8", *NETWORK_COLUMNS)
        yard = next(r["ms_median"] for r in rows if (r["engine"], r["type"]) == ("openvino", "int8"))
        for row in rows:
            times = [f"{row[key]:.4g}" for key in ("ms_median", "ms_min", "ms_max")]
            mode = f"{row['mode'] or ''}{', adds' if row['type'] == 'int8' and row['multiplierless'] else ''}"
            table.add_row(row["engine"], row["type"], mode, *times, f"{row['ms_median'] / yard:.2f}")
        shown += [Text(head), table]
    return shown


def _codec(answer: dict[str, Any]) -> list[RenderableType]:
    columns = ("mask", "mode", "isa", "decode", "encode", "rows", "bits", "iid", "prior")
    codec = _table("masks: Gbit/s of free weights, Gpositions/s, bits per free weight", *columns)
    for row in answer["results"]:
        mode = row["peer"] or f"{row['mode']} {row['planes'] or ''}".strip()
        keys = ("decode_bits_per_s", "encode_bits_per_s", "positions_per_s")
        rates = ["" if row[key] is None else f"{row[key] / 1e9:.3g}" for key in keys]
        keys = ("bits_per_free_weight", "entropy_bits_per_free_weight", "prior_entropy_bits_per_free_weight")
        sizes = ["" if row[key] is None else f"{row[key]:.4f}" for key in keys]
        codec.add_row(row["mask"], mode, row["isa"] or "", *rates, *sizes)
    deposits = _table("mask bits put in place by a given free bitmap: Gpositions/s", "mask", "isa", "deposit")
    for row in answer["results"]:
        if row["deposit_positions_per_s"] is not None:
            deposits.add_row(row["mask"], row["isa"], f"{row['deposit_positions_per_s'] / 1e9:.3g}")
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
    return [codec, deposits, planes, *map(Text, notes)]


def _table(title: str, *columns: str) -> Table:
    """Names to the left, numbers to the right, no lines: it must fit into 80 columns."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), title_style="bold")
    for column in columns:
        left = column in ("mask", "mode", "plane", "generator", "isa", "engine", "type")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


@cli.command(
    "slt-bench",
    example=[
        "slt-bench networks --net resnet18/0.8/65-5",
        "slt-bench codec --mask dense --isa avx2 --json",
    ],
    show=show,
)
def main(
    topic: Annotated[str, typer.Argument(metavar="|".join(TOPICS), help="What to measure.")],
    net: Annotated[
        list[str] | None,
        typer.Option(
            "--net",
            metavar="TICKET",
            help="NETWORK/SPARSITY/PRUNE-LOCK, the last two in per cent; "
            f"default {', '.join(bench_networks.TICKETS)}.",
        ),
    ] = None,
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
    """Measures one part, next to what else does it: medians of repeats in turn.

    networks (--net): one image through the network of a synthetic ticket, in f32, in
    int8 and in int8 by additions alone (adds), where multipliers are powers of two,
    and through the same network, dense, in torch, ONNX Runtime and OpenVINO, f32 and
    int8. Needs slt-infer[peers]. Outputs are compared before anything is timed.

    codec (--mask, --isa): decode: free weights per second, score planes made anew
    where a mask needs them. encode: with densities or intervals known. rows:
    positions per second of whole rows, from tiles to kept bits and signs. Peers
    code the same bits: constriction, zstd -19, xz -9e. Threads share a decoding;
    of all else each does the whole.

    One thread: CPU time; several: elapsed time.
    """
    known = {"topic": TOPICS, "--mask": tuple(bench_codec.MASKS), "--isa": tuple(_core.machine()["isas"])}
    for where, given in (("topic", [topic]), ("--mask", mask or []), ("--isa", isa or [])):
        for name in given:
            if name not in known[where]:
                cli.usage(f"{where}: no {name!r}; there are: {', '.join(known[where])}")
    flags = {"--net": net, "--mask": mask, "--isa": isa}
    for flag in ("--mask", "--isa") if topic == "networks" else ("--net",):
        if flags[flag]:
            cli.usage(f"{flag} is not for {topic}")
    load = os.getloadavg()[0]
    if topic == "networks":
        measured = {
            "clock": bench_networks.clock_of(threads).__name__,
            "versions": bench_networks.versions(),
            "results": bench_networks.measure(net or bench_networks.TICKETS, threads, seconds),
        }
    else:
        masks, isas = mask or known["--mask"], isa or known["--isa"]
        results, planes, missing = bench_codec.measure(masks, isas, threads, seconds, bench_codec.FREE)
        measured = {
            "clock": bench_codec.clock_of(threads).__name__,
            "results": results,
            "planes": planes,
            "missing": missing,
            "quoted": bench_codec.QUOTED,
        }
    words = [word for flag, names in flags.items() for name in names or [] for word in (flag, name)]
    words += ["--threads", str(threads), "--seconds", f"{seconds:g}"]
    return {
        "machine": {**_core.machine(), "cpus": os.cpu_count(), "load": load, "system": platform.platform()},
        "command": shlex.join(["slt-bench", topic, *words]),
        **measured,
    }

"""slt-bench: how fast this machine is at what a ticket needs."""

from __future__ import annotations

import os
import platform
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slt_infer import _core
from slt_infer.tools import bench_codec, bench_kernels, bench_networks, cli, kernel_report, kernel_shapes

TOPICS = ("codec", "kernels", "networks")
# The flags that only some topics have.
FLAGS = {
    "codec": ("--mask", "--isa"),
    "kernels": (
        *("--op", "--shape", "--density", "--type", "--mode", "--isa", "--no-peers"),
        *("--tune", "--out", "--plot"),
    ),
    "networks": ("--net",),
}
NETWORK_COLUMNS = ("engine", "type", "mode", "median", "min", "max", "off by", "ratio")


def show(answer: dict[str, Any]) -> RenderableType:
    machine = answer["machine"]
    head = f"{machine['cpu']}, {machine['cpus']} CPUs, load {machine['load']:.1f}; {answer['command']}"
    of_topic = _codec if "planes" in answer else _kernels if "peaks" in answer else _networks
    return Group(Text(head), *of_topic(answer))


def _networks(answer: dict[str, Any]) -> list[RenderableType]:
    peers = ", ".join(f"{name} {version}" for name, version in answer["versions"].items())
    shown: list[RenderableType] = [Text(peers)]
    for name in dict.fromkeys(row["ticket"] for row in answer["results"]):
        rows = [row for row in answer["results"] if row["ticket"] == name]
        head = (
            f"{name}: density {rows[0]['density']:.3g}, of multiply-accumulates {rows[0]['mac_density']:.3g}"
        )
        table = _table("ms; off by: share of the largest logit; ratio to OpenVINO int8", *NETWORK_COLUMNS)
        yard = next(r["ms_median"] for r in rows if (r["engine"], r["type"]) == ("openvino", "int8"))
        for row in rows:
            times = [f"{row[key]:.4g}" for key in ("ms_median", "ms_min", "ms_max")]
            mode = f"{row['mode'] or ''}{', adds' if row['type'] == 'int8' and row['multiplierless'] else ''}"
            error = f"{row['error']:.2g}{', too far' if row['far'] else ''}"
            cells = [*times, error, f"{row['ms_median'] / yard:.2f}"]
            table.add_row(row["engine"], row["type"], mode, *cells)
        shown += [Text(head), table]
    return shown


def _kernels(answer: dict[str, Any]) -> list[RenderableType]:
    shown: list[RenderableType] = [
        Text(
            f"{peak['isa']}, at most, G/s: additions {peak['add_load_f32'] / 1e9:.3g} f32, "
            f"{peak['add_load_i16'] / 1e9:.3g} int16; dot {peak['dot'] / 1e9:.3g}; "
            f"bytes {peak['l1'] / 1e9:.3g} L1, {peak['l2'] / 1e9:.3g} L2, {peak['memory'] / 1e9:.3g} memory"
        )
        for peak in answer["peaks"]
    ]
    isas = len(answer["peaks"]) > 1
    for name in dict.fromkeys(row["shape"] for row in answer["results"]):
        rows = [row for row in answer["results"] if row["shape"] == name]
        columns = ("density", "type", "mode", "kernel", "ms", "GMAC/s", "Gadd/s", "bound", "share", "ratio")
        peers = ", ".join(dict.fromkeys(f"{row['peer']} {row['type']}" for row in rows if row["peer"]))
        table = _table(f"{rows[0]['op']} {name}{peers and f'; ratio to dense {peers}'}", *columns)
        for row in rows:
            rates = [f"{row[key] / 1e9:.3g}" for key in ("macs_per_s", "adds_per_s")]
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            kernel = f"{row['kernel']} {row['isa']}" if isas else row["kernel"]
            cells = [f"{row['density']:g}", row["type"], row["mode"], kernel, f"{1e3 * row['seconds']:.4g}"]
            table.add_row(*cells, *rates, row["bound"], f"{row['share_of_bound']:.2f}", ratio)
        shown.append(table)
    for row in answer.get("tune", []):
        names = [row[key] for key in ("isa", "op", "type", "mode")] + [row["shapes"]]
        if row["multiplierless"]:
            names.append("multiplier-less")
        steps = ", ".join(f"{kernel} to {density:g}" for density, kernel in row["upto"])
        shown.append(Text(f"{' '.join(names)}: {steps}"))
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
    title = "deposit by a given free bitmap, Gpositions/s; whole writer, Gbit/s"
    deposits = _table(title, "mask", "isa", "deposit", "writer")
    for row in answer["results"]:
        if row["deposit_positions_per_s"] is not None:
            of_mask = (row["deposit_positions_per_s"], row["writer_bits_per_s"])
            shown = ["" if rate is None else f"{rate / 1e9:.3g}" for rate in of_mask]
            deposits.add_row(row["mask"], row["isa"], *shown)
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
        left = column in ("mask", "mode", "plane", "generator", "isa", "engine", "type", "kernel", "bound")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


@cli.command(
    "slt-bench",
    example=[
        "slt-bench networks --net resnet18/0.8/65-5",
        "slt-bench kernels --shape 64x56x56-64-3 --type f32",
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
        typer.Option(
            "--isa",
            metavar="ISA",
            help="Instruction sets; default all that run here (codec), or the best of them (kernels).",
        ),
    ] = None,
    op: Annotated[
        list[str] | None, typer.Option("--op", metavar="OP", help="conv2d or linear; default both.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="SHAPE",
            help="CxHxW-OUT-KERNEL[/STRIDE][gGROUPS] or INPUTS-OUT; default those of ResNet-18 and -50.",
        ),
    ] = None,
    density: Annotated[
        list[float] | None,
        typer.Option(
            "--density",
            metavar="SHARE",
            help=f"Of the weights kept; default {', '.join(map(str, bench_kernels.DENSITIES))}.",
        ),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="f32 or int8; default both.")
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option("--mode", metavar="MODE", help="stream or resident; default both.")
    ] = None,
    no_peers: Annotated[bool, typer.Option("--no-peers", help="kernels: run ours only.")] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="kernels: find where one kernel overtakes another.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="--tune: write its table as JSON.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="kernels: write an SVG, roofline and time against density."
        ),
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

    kernels (--op, --shape, --density, --type, --mode, --isa): single layers in every
    kernel that runs them, next to torch (f32) and ONNX Runtime (int8), dense. bound:
    what the machine takes for the same work at most; docs/runtime.md defines it.

    codec (--mask, --isa): decode: free weights per second, score planes made anew
    where a mask needs them. encode: with densities or intervals known. rows:
    positions per second of whole rows, from tiles to kept bits and signs. Peers
    code the same bits: constriction, zstd -19, xz -9e. writer: all that coding a
    mask takes, the choice of a mode and of intervals included, by the instruction
    set used by default. Threads share a decoding; of all else each does the whole.

    One thread: CPU time; several: elapsed time.
    """
    known = {
        "topic": TOPICS,
        "--mask": tuple(bench_codec.MASKS),
        "--isa": tuple(_core.machine()["isas"]),
        "--op": bench_kernels.OPS,
        "--type": bench_kernels.TYPES,
        "--mode": bench_kernels.MODES,
    }
    names = {"topic": [topic], "--mask": mask, "--isa": isa, "--op": op, "--type": kind, "--mode": mode}
    for where, given in names.items():
        for name in given or []:
            if name not in known[where]:
                cli.usage(f"{where}: no {name!r}; there are: {', '.join(known[where])}")
    for share in density or []:
        if not 0 < share <= 1:
            cli.usage(f"--density: {share:g} is not in (0, 1]")
    flags: dict[str, Any] = {
        "--net": net,
        **{flag: given for flag, given in names.items() if flag != "topic"},
    }
    flags |= {"--shape": shape, "--density": density, "--no-peers": no_peers, "--tune": tune, "--plot": plot}
    flags["--out"] = out
    for flag, given in flags.items():
        if given and flag not in FLAGS[topic]:
            cli.usage(f"{flag} is not for {topic}")
    if out and not tune:
        cli.usage("--out is for --tune")
    load = os.getloadavg()[0]
    if topic == "networks":
        measured: dict[str, Any] = {
            "clock": bench_networks.clock_of(threads).__name__,
            "versions": bench_networks.versions(),
            "results": bench_networks.measure(net or bench_networks.TICKETS, threads, seconds),
        }
    elif topic == "kernels":
        if plot:
            kernel_report.svg_pyplot()  # or refuses, before anything is measured
        chosen = [kernel_shapes.shape_of(name) for name in shape or bench_kernels.SHAPES]
        peaks, rows = bench_kernels.measure(
            [one for one in chosen if one.op in (op or bench_kernels.OPS)],
            density or bench_kernels.DENSITIES,
            kind or bench_kernels.TYPES,
            mode or bench_kernels.MODES,
            isa or [_core.machine()["isa"]],
            threads,
            seconds,
            not no_peers,
        )
        measured = {"clock": bench_networks.clock_of(threads).__name__, "peaks": peaks, "results": rows}
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
    answer: dict[str, Any] = {
        "machine": {**_core.machine(), "cpus": os.cpu_count(), "load": load, "system": platform.platform()},
        "command": shlex.join(["slt-bench", topic, *_words(flags, threads, seconds)]),
        **measured,
    }
    if tune:
        answer["tune"] = kernel_report.tuned(answer["results"])
        if out:
            out.write_text(cli.to_json(answer["tune"]))
    if plot:
        kernel_report.plot(plot, answer)
    return answer


def _words(flags: dict[str, Any], threads: int, seconds: float) -> list[str]:
    """The command line again; files that it writes are left out."""
    words = []
    for flag, given in flags.items():
        if given is True:
            words.append(flag)
        elif isinstance(given, list):
            words += [word for one in given for word in (flag, str(one))]
    return [*words, "--threads", str(threads), "--seconds", f"{seconds:g}"]

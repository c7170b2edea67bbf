"""slt-export: packs a searched or synthetic ticket into one file and reports its size, or writes what a chip
loads of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from slt_infer import models
from slt_infer.codec import MAX_PLANES, ticket_from_masks
from slt_infer.errors import SltError
from slt_infer.format import load, save
from slt_infer.freeze import placement
from slt_infer.report import ticket_report
from slt_infer.runtime.calibrate import PERCENTILE, Method
from slt_infer.runtime.narrow import narrowest, with_affine_bits
from slt_infer.runtime.plan import Plan
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.search import result
from slt_infer.ticket import Source, Ticket
from slt_infer.tools import cli, export_int8, export_target, tables
from slt_infer.tools.tested import Tested

OF_INT8 = {"calibrate", "calibrate_images", "calibrate_method", "pow2"}
OF_RUNS = {"run", "data_dir", "limit", "calibrate", "calibrate_images"}
OF_SYNTHETIC = {"synthetic", "profile", "sparsity", "prune", "lock", "frozen", "rule", "bits", "freeze_law"}
OF_SYNTHETIC |= {"seed", "generator", "input_size", "classes"}
OF_PACKING = {*OF_INT8, *OF_RUNS, *OF_SYNTHETIC, "planes", "affine_bits", "int8"} - {"run"}


def show(answer: dict[str, Any]) -> RenderableType:
    head = [tables.plain(line) for line in (f"wrote {answer['file']}", tables.origin(answer["provenance"]))]
    tail = []
    compared = answer.get("affine", {})
    if "why" in compared:
        tail.append(tables.plain(f"affines: {compared['why']}"))
    if "images" in compared:
        differ = f"{cli.differ(compared['different'])} from the trainer's"
        tail.append(Text(f"affines: {cli.count(compared['images'], 'test image')} compared, {differ}"))
    if "int8" in answer:
        tail += map(tables.plain, export_int8.lines(answer["int8"]))
    if "target" in answer:
        return Group(*head, export_target.lines(answer), *tail)
    return Group(*head, tables.ratios(answer), tables.sizes(answer), *tail)


@cli.command(
    "slt-export",
    example=[
        "slt-export runs -o net.slt",
        "slt-export runs -o net.slt --int8",
        "slt-export --synthetic resnet18-cifar --sparsity 0.9 --frozen 0.85 -o r18.slt",
        "slt-export net.slt --target rtl -o net.hex",
    ],
    show=show,
)
def main(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN|FILE",
            help="Run folder of slt-train, or a folder that holds one; with --target also a packed ticket "
            "(.slt).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")
    ] = None,
    synthetic: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="No search: a random mask of this network.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Synthetic: of its free weights each layer keeps the share that it kept in RUN.",
        ),
    ] = None,
    sparsity: cli.Sparsity = 0.5,
    prune: cli.Prune = 0.0,
    lock: cli.Lock = 0.0,
    frozen: cli.Frozen = None,
    rule: cli.Rule = "epl",
    bits: Annotated[int, typer.Option(help="Freeze planes at most.", min=1, max=16)] = 8,
    freeze_law: cli.FreezeLaw = "bernoulli",
    planes: Annotated[
        int,
        typer.Option(help="Planes of the initial scores that masks may be coded by.", min=0, max=MAX_PLANES),
    ] = MAX_PLANES,
    seed: cli.Seed = 0,
    generator: cli.Generator = "philox4x32",
    input_size: cli.InputSize = None,
    classes: cli.Classes = None,
    affine_bits: Annotated[
        str,
        typer.Option(
            help="Bits of a scale or shift: 8, 16, 32, or auto: the fewest, layer by layer, that leave every "
            "prediction of the run's test images as it is.",
            callback=cli.one_of("auto", "8", "16", "32"),
        ),
    ] = "auto",
    int8: Annotated[
        bool, typer.Option("--int8", help="Add scales of all values, so that the file also runs in int8.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="int8: training images of this data set, or images of this file or folder, that scales are "
            "chosen on. [default: what the run was trained on]",
        ),
    ] = None,
    calibrate_images: Annotated[
        int, typer.Option(metavar="N", help="int8: so many of them, drawn once and for all.", min=1)
    ] = export_int8.IMAGES,
    calibrate_method: Annotated[
        str,
        typer.Option(
            help=f"int8: a value's scale reaches what {PERCENTILE} per cent of its magnitudes are within "
            "(percentile), or all of them (max).",
            callback=cli.one_of(*get_args(Method)),
        ),
    ] = "percentile",
    pow2: Annotated[
        bool,
        typer.Option(
            "--pow2",
            help="int8: scales and multipliers are powers of two, which costs accuracy; slt-run "
            "--multiplierless then takes no multiplications.",
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="rtl",
            help="Write what a chip loads instead (docs/target.md): 32-bit words for the units of rtl/, flat "
            "(FILE.bin) or for $readmemh (FILE.hex).",
            callback=cli.one_of("rtl"),
        ),
    ] = None,
    task: cli.Task = None,
    data_dir: cli.DataDir = None,
    limit: Annotated[
        int | None, typer.Option(help="Compare predictions of only the first so many test images.", min=1)
    ] = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Packs a ticket into one .slt file and reports its size against every other way to store the network.

    RUN is a folder that slt-train wrote; --synthetic packs a ticket of any known network without a search.
    Each layer's mask is coded in the mode that takes the fewest bytes; --json lists what was tried. Fewer
    --planes decode faster, 0 ignores the initial scores. Affines of a synthetic ticket have 32 bits unless
    --affine-bits says else, and its int8 scales are from noise. What narrow affines and int8 cost is counted
    on the run's test images. --target writes the words that hardware, or its test bench, loads; from a
    packed ticket or from any that this command can pack. The file appears whole or not at all.
    """
    if (run is None) == (synthetic is None):
        cli.usage("give either a RUN folder or --synthetic NETWORK")
    if out is None:
        cli.usage("say where to write with -o FILE")
    form = None if target is None else export_target.form_of(out)
    answer: dict[str, Any] = {"file": str(out)}
    if form is not None and run is not None and (run.suffix == ".slt" or run.is_file()):
        _unused(context, OF_PACKING, "is for packing, and FILE is packed: leave it out")
        cli.apart(run, out)
        return answer | export_target.written(load(run).task(task or 0), out, form)
    _unused(context, {"task"}, "is for --target of a packed ticket: leave it out")
    answer["affine"] = {"asked": affine_bits}
    if not int8:
        _unused(context, OF_INT8, "says how --int8 chooses scales: add --int8")
    method = cast(Method, calibrate_method)
    if run is not None:
        _unused(context, OF_SYNTHETIC, "is for --synthetic alone: leave it out")
        folder = result.find(run)
        found = result.load(folder)
        ticket = ticket_from_masks(**found.ticket_parts(), planes=planes)
        narrow = affine_bits != "32" and any(layer.affine is not None for layer in ticket.layers)
        tested = _tested(folder, ticket, data_dir, limit) if narrow or int8 else ""
        if narrow:
            ticket, cost = _narrow(ticket, affine_bits, tested)
            answer["affine"] |= cost
        if int8:
            data = found.summary.data
            ticket, how = export_int8.on_images(
                ticket, data, calibrate, data_dir, calibrate_images, method, pow2
            )
            cost = {"why": tested} if isinstance(tested, str) else export_int8.loss(ticket, tested)
            answer["int8"] = how | cost
    else:
        _unused(context, OF_RUNS, "is for a RUN alone: leave it out")
        image = cli.image_shape(input_size) if input_size else None
        network = models.network(str(synthetic), input=image, classes=classes)
        source = Source.named(generator, seed, freeze_law)  # type: ignore[arg-type]
        if frozen is not None:
            if prune or lock:
                cli.usage("--frozen stands instead of --prune and --lock")
            prune, lock = placement(sparsity, frozen)
        shares = _shares(profile, len(network.layers)) if profile else None
        ratios = (sparsity, prune, lock, rule, bits)
        ticket = synthetic_ticket(network, source, *ratios, planes, shares)  # type: ignore[arg-type]
        if affine_bits != "auto":
            ticket = with_affine_bits(ticket, int(affine_bits))
        if int8:
            ticket, answer["int8"] = export_int8.on_noise(ticket, method, pow2)
    if form is not None:
        return answer | export_target.written(ticket, out, form)
    save(ticket, out)
    return answer | ticket_report(ticket)


def _unused(context: typer.Context, names: set[str], why: str) -> None:
    """Bad usage if one of these flags is given."""
    for name, value in context.params.items():
        given = context.get_parameter_source(name)
        if name in names and given is not None and given.name == "COMMANDLINE":
            flag = name.replace("_size", "").replace("_", "-")
            cli.usage(f"--{flag}{'' if value is True else f' {value}'} {why}")


def _tested(folder: Path, ticket: Ticket, data_dir: Path | None, limit: int | None) -> Tested | str:
    """What the run was tested on, or why it cannot be had."""
    try:
        return Tested.of(folder, ticket, data_dir, limit)
    except SltError as error:
        return f"predictions cannot be compared: {error}"


def _narrow(ticket: Ticket, bits: str, tested: Tested | str) -> tuple[Ticket, dict[str, Any]]:
    """The ticket with affines of so many bits (`auto`: the fewest with which predictions of the test images
    stay), on how many images it was compared and how many are not the trainer's; or why it was not.
    """
    if bits != "auto":
        ticket = with_affine_bits(ticket, int(bits))
        if isinstance(tested, str):
            return ticket, {"why": f"{bits} bits, and {tested}"}
        predicted = tested.predict(Plan(ticket, mode="resident"), f"affine: {bits} bits")
        return ticket, {"images": len(tested), "different": int((predicted != tested.trainer).sum())}
    if isinstance(tested, str):
        return ticket, {"why": f"32 bits, as {tested}"}
    with cli.progress() as bar:
        task = bar.add_task("affine", total=len(tested))
        found = narrowest(
            ticket,
            tested.part,
            tested.trainer,
            lambda what, done: bar.update(
                task, description=tables.plain(f"affine: {what}").plain, completed=done
            ),
        )
    return found.ticket, {"images": len(tested), "different": found.different}


def _shares(profile: Path, layers: int) -> list[float]:
    """Of each layer's free weights, the share that a run kept."""
    summary = result.load_summary(result.find(profile))
    if len(summary.layers) != layers:
        message = f"{summary.network} has {len(summary.layers)} layers, where {layers} are wanted: "
        raise SltError("bad-profile", f"{message}name a run of the same network", "--profile")
    return [(layer.kept - layer.locked) / layer.free if layer.free else 0.0 for layer in summary.layers]

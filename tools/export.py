"""slt-export: packs a searched or synthetic ticket into one file and reports its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from slt_infer import models
from slt_infer.codec import MAX_PLANES, ticket_from_masks
from slt_infer.data import load as load_data
from slt_infer.data import preprocess
from slt_infer.errors import SltError
from slt_infer.format import save
from slt_infer.freeze import placement
from slt_infer.report import ticket_report
from slt_infer.runtime.narrow import narrowest, with_affine_bits
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.search import result
from slt_infer.ticket import Source, Ticket
from slt_infer.tools import cli, tables

OF_BOTH = {"out", "planes", "affine_bits", "as_json"}
OF_RUNS = {"run", "data_dir", "limit"}
OF_SYNTHETIC = {"synthetic", "profile", "sparsity", "prune", "lock", "frozen", "rule", "bits", "freeze_law"}
OF_SYNTHETIC |= {"seed", "generator", "input_size", "classes"}


def show(answer: dict[str, Any]) -> RenderableType:
    head = [tables.plain(line) for line in (f"wrote {answer['file']}", tables.origin(answer["provenance"]))]
    tail = []
    if "why" in answer["affine"]:
        tail.append(tables.plain(f"affines: {answer['affine']['why']}"))
    if "images" in answer["affine"]:
        compared = answer["affine"]
        differ = f"{compared['different']} predictions differ from the trainer's"
        tail.append(Text(f"affines: {cli.count(compared['images'], 'test image')} compared, {differ}"))
    return Group(*head, tables.ratios(answer), tables.sizes(answer), *tail)


@cli.command(
    "slt-export",
    example=[
        "slt-export runs -o net.slt",
        "slt-export --synthetic resnet18-cifar --sparsity 0.9 --frozen 0.85 -o r18.slt",
    ],
    show=show,
)
def main(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Run folder of slt-train, or a folder that holds one."),
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
    --affine-bits says else.
    The file appears whole or not at all.
    """
    if (run is None) == (synthetic is None):
        cli.usage("give either a RUN folder or --synthetic NETWORK")
    if out is None:
        cli.usage("say where to write with -o FILE")
    widths = {"asked": affine_bits}
    if run is not None:
        _only_for(context, "--synthetic", OF_RUNS | OF_BOTH)
        folder = result.find(run)
        ticket = ticket_from_masks(**result.load(folder).ticket_parts(), planes=planes)
        if affine_bits == "auto":
            ticket, found = _narrowest(ticket, folder, data_dir, limit)
            widths |= found
    else:
        _only_for(context, "a RUN", OF_SYNTHETIC | OF_BOTH)
        image = cli.image_shape(input_size) if input_size else None
        network = models.network(str(synthetic), input=image, classes=classes)
        source = Source.named(generator, seed, freeze_law)  # type: ignore[arg-type]
        if frozen is not None:
            if prune or lock:
                cli.usage("--frozen stands instead of --prune and --lock")
            prune, lock = placement(sparsity, frozen)
        shares = _shares(result.load_summary(result.find(profile)), len(network.layers)) if profile else None
        ratios = (sparsity, prune, lock, rule, bits)
        ticket = synthetic_ticket(network, source, *ratios, planes, shares)  # type: ignore[arg-type]
    if affine_bits != "auto":
        ticket = with_affine_bits(ticket, int(affine_bits))
    save(ticket, out)
    return {"file": str(out), "affine": widths, **ticket_report(ticket)}


def _only_for(context: typer.Context, other: str, allowed: set[str]) -> None:
    """Bad usage if a flag is given that is for the `other` kind of ticket alone."""
    for name, value in context.params.items():
        given = context.get_parameter_source(name)
        if name not in allowed and given is not None and given.name == "COMMANDLINE":
            flag = name.replace("_size", "").replace("_", "-")
            cli.usage(f"--{flag} {value} is for {other} alone")


def _narrowest(
    ticket: Ticket, folder: Path, data_dir: Path | None, limit: int | None
) -> tuple[Ticket, dict[str, Any]]:
    """The ticket with the narrowest affines that keep the trainer's predictions of its test images, and on
    how many images; the ticket as it is where these or the predictions cannot be had, and why.
    """
    if all(layer.affine is None for layer in ticket.layers):
        return ticket, {}
    try:
        trainer = result.load_predictions(folder)
        data, rules, size = result.load_summary(folder).data, ticket.preprocessing, ticket.network.input
        images = load_data(data, "test", data_dir, size=size, resize=rules.resize, limit=limit)
    except SltError as error:
        return ticket, {"why": f"32 bits, as predictions cannot be compared: {error}"}
    count = len(images)
    if images.labels is None or not np.array_equal(images.labels, trainer.labels[: limit or count]):
        return ticket, {"why": f"32 bits, as {data} is not what the run was tested on"}
    with cli.progress() as bar:
        task = bar.add_task("affine", total=count)
        found = narrowest(
            ticket,
            lambda part: preprocess(images.pixels[part], rules, size),
            trainer.classes[:count],
            lambda what, done: bar.update(
                task, description=tables.plain(f"affine: {what}").plain, completed=done
            ),
        )
    return found.ticket, {"images": count, "different": found.different}


def _shares(summary: result.Summary, layers: int) -> list[float]:
    """Of each layer's free weights, the share that the run kept."""
    if len(summary.layers) != layers:
        message = f"the run has {len(summary.layers)} layers, the network {layers}"
        raise SltError("bad-profile", message, "--profile")
    return [(layer.kept - layer.locked) / layer.free if layer.free else 0.0 for layer in summary.layers]

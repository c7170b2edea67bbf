"""slt-export: packs a searched or synthetic ticket into one file and reports its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from slt_infer import models
from slt_infer.codec import MAX_PLANES, ticket_from_masks
from slt_infer.errors import SltError
from slt_infer.format import save
from slt_infer.freeze import placement
from slt_infer.report import ticket_report
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.search import result
from slt_infer.ticket import Source
from slt_infer.tools import cli, tables


def show(answer: dict[str, Any]) -> RenderableType:
    head = [Text(f"wrote {answer['file']}"), Text(tables.origin(answer["provenance"]))]
    return Group(*head, tables.ratios(answer), tables.sizes(answer))


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
    planes: Annotated[
        int,
        typer.Option(help="Planes of the initial scores that masks may be coded by.", min=0, max=MAX_PLANES),
    ] = MAX_PLANES,
    seed: cli.Seed = 0,
    generator: cli.Generator = "philox4x32",
    input_size: cli.InputSize = None,
    classes: cli.Classes = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Packs a ticket into one .slt file and reports its size against every other way to store the network.

    RUN is a folder that slt-train wrote; --synthetic packs a ticket of any known network without a search.
    Each layer's mask is coded in the mode that takes the fewest bytes; --json lists what was tried. Fewer
    --planes decode faster, 0 ignores the initial scores.
    The file appears whole or not at all.
    """
    if (run is None) == (synthetic is None):
        cli.usage("give either a RUN folder or --synthetic NETWORK")
    if out is None:
        cli.usage("say where to write with -o FILE")
    if run is not None:
        _only_synthetic(context)
        parts = result.load(result.find(run)).ticket_parts()
        ticket = ticket_from_masks(**parts, planes=planes)
    else:
        image = cli.image_shape(input_size) if input_size else None
        network = models.network(str(synthetic), input=image, classes=classes)
        source = Source.named(generator, seed)
        if frozen is not None:
            if prune or lock:
                cli.usage("--frozen stands instead of --prune and --lock")
            prune, lock = placement(sparsity, frozen)
        shares = _shares(result.load_summary(result.find(profile)), len(network.layers)) if profile else None
        ratios = (sparsity, prune, lock, rule, bits)
        ticket = synthetic_ticket(network, source, *ratios, planes, shares)  # type: ignore[arg-type]
    save(ticket, out)
    return {"file": str(out), **ticket_report(ticket)}


def _only_synthetic(context: typer.Context) -> None:
    """Bad usage if a flag is given that has no meaning for a run."""
    for name, value in context.params.items():
        given = context.get_parameter_source(name)
        of_runs = name in ("run", "out", "planes", "as_json")
        if not of_runs and given is not None and given.name == "COMMANDLINE":
            cli.usage(f"--{name.replace('_size', '')} {value} is for --synthetic; a run has its own")


def _shares(summary: result.Summary, layers: int) -> list[float]:
    """Of each layer's free weights, the share that the run kept."""
    if len(summary.layers) != layers:
        message = f"the run has {len(summary.layers)} layers, the network {layers}"
        raise SltError("bad-profile", message, "--profile")
    return [(layer.kept - layer.locked) / layer.free if layer.free else 0.0 for layer in summary.layers]

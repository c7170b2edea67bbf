"""slt-export: packs a searched or synthetic ticket into one file and reports its size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from slt_infer import models
from slt_infer.codec import MAX_PLANES, ticket_from_masks
from slt_infer.errors import SltError
from slt_infer.format import save
from slt_infer.report import ticket_report
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.search import result
from slt_infer.ticket import Source
from slt_infer.tools import cli, tables


def show(answer: dict[str, Any]) -> RenderableType:
    return Group(f"wrote {answer['file']}", tables.ratios(answer), tables.sizes(answer))


@cli.command(
    "slt-export",
    example="slt-export runs/mlp-3f2a91 -o net.slt   or   slt-export --synthetic resnet18-cifar "
    "--sparsity 0.9 --prune 0.85 --lock 0.05 --seed 1 -o r18.slt",
    show=show,
)
def main(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder of slt-train.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")
    ] = None,
    synthetic: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="No search: a random mask of this network.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Synthetic: copy the layers' shares of this run.")
    ] = None,
    sparsity: cli.Sparsity = 0.5,
    prune: cli.Prune = 0.0,
    lock: cli.Lock = 0.0,
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
        ticket = ticket_from_masks(**result.load(run).ticket_parts(), planes=planes)
    else:
        image = cli.image_shape(input_size) if input_size else None
        network = models.network(str(synthetic), input=image, classes=classes)
        source = Source.named(generator, seed)
        shares = _shares(result.load_summary(profile), len(network.layers)) if profile else None
        ticket = synthetic_ticket(network, source, sparsity, prune, lock, rule, bits, shares)  # type: ignore[arg-type]
    save(ticket, out)
    return {"file": str(out), **ticket_report(ticket)}


def _shares(summary: result.Summary, layers: int) -> list[float]:
    """Of each layer's free weights, the share that the run kept."""
    if len(summary.layers) != layers:
        message = f"the run has {len(summary.layers)} layers, the network {layers}"
        raise SltError("bad-profile", message, "--profile")
    return [(layer.kept - layer.locked) / layer.free if layer.free else 0.0 for layer in summary.layers]

"""slt-train: searches a ticket and writes a run folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.table import Table

from slt_infer import data
from slt_infer.errors import SltError
from slt_infer.freeze import placement
from slt_infer.search import result
from slt_infer.search.settings import Settings, read_recipe, recipe_names, resolve, run_name
from slt_infer.tools import cli

if TYPE_CHECKING:
    from rich.progress import Progress

    from slt_infer.search.trainer import Observer, Step


def _flag(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, show_default=False, **more)


def show(answer: cli.Answer) -> Table:
    table = Table(show_header=False, box=None)
    for key, value in answer.items():
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else str(value))
    return table


@cli.command(
    "slt-train",
    example="slt-train --arch mlp-784-300-100-10 --data fashion-mnist "
    "--sparsity 0.5 --prune 0.25 --lock 0.25",
    show=show,
)
def main(
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="FILE|NAME", help=f"TOML file, or one of {recipe_names()}."),
    ] = None,
    arch: Annotated[str | None, _flag("--arch", "Network, such as conv4 or mlp-784-300-100-10.")] = None,
    dataset: Annotated[str | None, _flag("--data", "Data set name, or a path.", metavar="NAME|PATH")] = None,
    data_dir: cli.DataDir = None,
    method: Annotated[
        str | None, _flag("--method", "edge-popup (global threshold), edge-popup-local or rate-aware.")
    ] = None,
    rate: Annotated[
        float | None, _flag("--rate", "Rate-aware search: the more, the smaller the file; 0.001 is gentle.")
    ] = None,
    sparsity: Annotated[float | None, _flag("--sparsity", "Share of all weights to remove.")] = None,
    prune: Annotated[float | None, _flag("--prune", "Share of weights frozen as pruned.")] = None,
    lock: Annotated[float | None, _flag("--lock", "Share of weights frozen as locked.")] = None,
    frozen: Annotated[
        float | None,
        _flag("--frozen", "Instead of --prune and --lock: their sum, placed around the sparsity."),
    ] = None,
    rule: Annotated[str | None, _flag("--rule", "Layer ratios: uniform, erk or epl.")] = None,
    seed: Annotated[int | None, _flag("--seed", "Seed of every random bit.")] = None,
    generator: Annotated[
        str | None, _flag("--generator", "philox4x32 or threefry4x32, or either with -ROUNDS.")
    ] = None,
    epochs: Annotated[str | None, _flag("--epochs", "Length, such as 10ep or 500it.")] = None,
    batch: Annotated[int | None, _flag("--batch", "Images of a step.")] = None,
    lr: Annotated[float | None, _flag("--lr", "Learning rate at the start.")] = None,
    input_size: cli.InputSize = None,
    resize: Annotated[str | None, _flag("--resize", "With --input: exact, stretch or crop.")] = None,
    classes: cli.Classes = None,
    data_seed: Annotated[int | None, _flag("--data-seed", "Seed of order, augmentation and split.")] = None,
    set_: Annotated[
        list[str] | None, _flag("--set", "Any other key of a recipe.", metavar="KEY=VALUE")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of runs; each gets a folder in it.")] = Path(
        "runs"
    ),
    threads: cli.Threads = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    as_json: cli.Json = False,
) -> cli.Answer:
    """Searches a ticket in a random network and writes a run folder.

    Flags go over the recipe, the recipe over the network's defaults. A finished run is not repeated, an
    unfinished one goes on where it was.
    """
    flags = {
        "arch": arch,
        "data": dataset,
        "method": method,
        "rate": rate,
        "sparsity": sparsity,
        "prune": prune,
        "lock": lock,
        "rule": rule,
        "seed": seed,
        "generator": generator,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "input": input_size,
        "resize": resize,
        "data_seed": data_seed,
        **_assignments(set_ or []),
    }
    settings = resolve(read_recipe(recipe) if recipe else {}, flags)
    if frozen is not None:
        if prune is not None or lock is not None:
            cli.usage("--frozen stands instead of --prune and --lock")
        pruned, locked = placement(settings.sparsity, frozen)
        settings = msgspec.structs.replace(settings, prune=pruned, lock=locked)
    return search(settings, data_dir, out, threads, device, classes)


def search(
    settings: Settings,
    data_dir: Path | None,
    out: Path,
    threads: int,
    device: str,
    classes: int | None = None,
) -> cli.Answer:
    """Loads the data, searches with a progress bar on stderr, and answers."""
    folder = out / run_name(settings)
    if (folder / "result.json").exists():
        cli.note(f"finished already: {folder}")
        return answer(folder, result.load_summary(folder))
    from slt_infer.search import trainer  # torch takes seconds to import: only where it is needed

    size = cli.image_shape(settings.input) if settings.input else None
    train, test = (
        data.load(settings.data, split, data_dir, size=size, resize=settings.resize)
        for split in ("train", "test")
    )
    if classes not in (None, len(train.classes)):
        raise SltError("bad-classes", f"has {len(train.classes)} classes, not {classes}", settings.data)
    fields = "{task.fields[rate]:.0f} images/s  accuracy {task.fields[accuracy]:.3f}"
    with cli.progress(fields) as bar, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: cli.note(f"warning: {message}")
        observe = _observer(bar)
        folder, found = trainer.train(
            settings, train, test, out, device=device, threads=threads, observe=observe
        )
    return answer(folder, found.summary)


def _observer(bar: Progress) -> Observer:
    task = bar.add_task("search", total=None, rate=0.0, accuracy=0.0)

    def observe(step: Step) -> None:
        bar.update(
            task,
            completed=step.iteration,
            total=step.iterations,
            rate=step.images_per_second,
            accuracy=step.accuracy,
        )
        if step.row:
            # by the bar's own console, which keeps the line apart from the bar
            bar.console.print(
                f"epoch {step.epoch}  iteration {step.iteration}/{step.iterations}  loss {step.loss:.4f}"
                f"  accuracy {step.accuracy:.4f}  validation {step.row['val_accuracy']:.4f}"
                f"  density {step.row['density']:.4f}  mask {step.row['mask_bits_prior']:.4f} bits"
                f"  {step.images_per_second:.0f} images/s",
                highlight=False,
                soft_wrap=True,
            )

    return observe


def answer(folder: Path, summary: result.Summary) -> cli.Answer:
    """The JSON object of slt-train."""
    weights = sum(layer.weights for layer in summary.layers)
    totals = {
        key: sum(getattr(layer, key) for layer in summary.layers)
        for key in ("pruned", "locked", "free", "kept")
    }
    asked = summary.settings
    return {
        "run": str(folder),
        "network": summary.network,
        "data": summary.data,
        "method": summary.method,
        "sparsity": summary.sparsity,
        "density": summary.density,
        "requested": {key: asked[key] for key in ("sparsity", "prune", "lock")},
        "realised": {"prune": totals["pruned"] / weights, "lock": totals["locked"] / weights},
        "weights": weights,
        **totals,
        "val_accuracy": summary.val_accuracy,
        "test_accuracy": summary.test_accuracy,
        "epochs": summary.epochs,
        "best_epoch": summary.best_epoch,
        "seconds": summary.seconds,
    }


def _assignments(texts: list[str]) -> dict[str, Any]:
    """KEY=VALUE, the value written as in TOML, or as a bare word."""
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            cli.usage(f"--set wants KEY=VALUE, not {text!r}")
        try:
            values[key] = msgspec.toml.decode(f"v = {value}".encode())["v"]
        except msgspec.DecodeError:
            values[key] = value
    return values


if __name__ == "__main__":
    main()

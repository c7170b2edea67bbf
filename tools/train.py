"""slt-train: searches a ticket and writes a run folder."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slt_infer import data, models
from slt_infer.errors import SltError
from slt_infer.freeze import placement
from slt_infer.search import result
from slt_infer.search.settings import Settings, check, read_recipe, recipe_names, resolve, run_name, usual
from slt_infer.tools import cli

if TYPE_CHECKING:
    from rich.progress import Progress

    from slt_infer.search.trainer import Observer, Search, Step


_NETWORKS = f"mlp-A-B-C of any widths, {', '.join(models.NAMES[1:])}; @0.5 after it scales the widths."
_DATA = f"{', '.join(data.NAMES)}, or a path."
LINE_SECONDS = 5.0  # between two lines of progress where stderr is no terminal


def _flag(name: str, text: str, **more: Any) -> Any:
    """A flag that stands for the setting of its name: values that it cannot have are bad usage."""
    key = name.removeprefix("--").replace("-", "_")

    def take(value: Any) -> Any:
        try:
            if value is not None:
                check(key, value, name)
        except SltError as error:
            cli.usage(error.message)
        return value

    if key in Settings.__struct_fields__:
        text, more["callback"] = f"{text}  [default: {usual(key)}]", take
    return typer.Option(name, help=text, show_default=False, **more)


def show(answer: cli.Answer) -> RenderableType:
    table = Table(show_header=False, box=None)
    for key, value in answer.items():
        table.add_row(key, _text(value))
    return Group(table, Text(f"next: slt-export {shlex.quote(answer['run'])} -o net.slt"))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


@cli.command(
    "slt-train",
    example=[
        "slt-train --recipe mlp-fashion-mnist",
        "slt-train --arch conv2 --data fashion-mnist --sparsity 0.5 --frozen 0.5 --epochs 5ep",
    ],
    show=show,
)
def main(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="FILE|NAME", help=f"TOML file, or one of {', '.join(recipe_names())}."
        ),
    ] = None,
    arch: Annotated[str | None, _flag("--arch", _NETWORKS)] = None,
    dataset: Annotated[str | None, _flag("--data", _DATA, metavar="NAME|PATH")] = None,
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
    frozen: cli.Frozen = None,
    rule: Annotated[str | None, _flag("--rule", "Layer ratios: uniform, erk or epl.")] = None,
    freeze_law: Annotated[
        str | None, _flag("--freeze-law", "bernoulli, or mixed: two generator calls a block.")
    ] = None,
    seed: Annotated[int | None, _flag("--seed", "Seed of every random bit.")] = None,
    generator: Annotated[
        str | None, _flag("--generator", "philox4x32 or threefry4x32, or either with -ROUNDS.")
    ] = None,
    epochs: Annotated[str | None, _flag("--epochs", "Length: 10ep, or 500it (iterations).")] = None,
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
    version: cli.Version = False,
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
        "freeze_law": freeze_law,
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
    settings = resolve(read_recipe(recipe) if recipe else {}, flags, f"recipe {recipe}")
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
    else:
        cli.note(f"run folder {folder}; reading {settings.data}")
    size = cli.image_shape(settings.input) if settings.input else None
    train, test = (
        data.load(settings.data, split, data_dir, size=size, resize=settings.resize)
        for split in ("train", "test")
    )
    if classes not in (None, len(train.classes)):
        raise SltError("bad-classes", f"has {len(train.classes)} classes, not {classes}", settings.data)
    trainer = _trainer()
    fields = "{task.fields[rate]:.0f} images/s  accuracy {task.fields[accuracy]:.3f}"
    begun: list[Search] = []
    with cli.progress(fields) as bar, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: cli.note(f"warning: {message}")
        begin, observe = _observers(bar, begun)
        try:
            folder, found = trainer.train(
                settings, train, test, out, device=device, threads=threads, observe=observe, begin=begin
            )
        except KeyboardInterrupt:
            if begun:
                at, saved = begun[0].iteration, begun[0].saved
                again = f"goes on from iteration {saved}" if saved else "starts again"
                cli.note(f"stopped at iteration {at}; the same command {again}")
            raise
    return answer(folder, found.summary)


def _trainer() -> ModuleType:
    try:
        from slt_infer.search import trainer  # torch takes seconds to import: only where it is needed
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        message = "slt-train needs torch: pip install 'slt-infer[search]'"
        raise SltError("missing-torch", message) from None
    return trainer


def _observers(bar: Progress, begun: list[Search]) -> tuple[Callable[[Search], None], Observer]:
    """What is told of a search when it begins (it is put into `begun`) and on its way."""
    task = bar.add_task("search", total=None, rate=0.0, accuracy=0.0)
    told = time.monotonic()

    def begin(search: Search) -> None:
        nonlocal told
        begun.append(search)
        told = time.monotonic()
        bar.reset(task, completed=search.iteration, total=search.iterations)
        for line in _beginning(search):
            cli.note(line)

    def observe(step: Step) -> None:
        nonlocal told
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
                f"epoch {step.epoch}  loss {step.loss:.3f}"
                f"  accuracy {step.accuracy:.3f}  validation {step.row['val_accuracy']:.3f}"
                f"  mask {step.row['mask_bits_prior']:.4f} bits",
                highlight=False,
                soft_wrap=True,
            )
        elif bar.disable and time.monotonic() - told >= LINE_SECONDS:
            cli.note(_progress(step, begun[0].settings.batch))
        else:
            return
        told = time.monotonic()

    return begin, observe


def _beginning(search: Search) -> list[str]:
    """Network, data, weights and length of a search, and where it goes on."""
    layers, settings = search.net.each(), search.settings
    weights, free, locked = search.graph.weights, search.net.scores.numel(), sum(la.locked for la in layers)
    kept = locked + sum(count for _, count in search.net.spans)
    lines = [
        f"{search.graph.name} on {settings.data}: {cli.count(search.data['training'], 'image')}, "
        f"{search.data['validation']:,} more for validation",
        f"{cli.count(weights, 'weight')}: {free:,} free, {kept:,} will be kept; "
        f"{cli.count(search.iterations, 'iteration')}",
    ]
    if search.iteration:
        lines.append(f"going on from iteration {search.iteration} of {search.folder}")
    return lines


def _progress(step: Step, batch: int) -> str:
    left = (step.iterations - step.iteration) * batch / max(step.images_per_second, 1e-9)
    return (
        f"iteration {step.iteration}/{step.iterations}  loss {step.loss:.3f}  accuracy {step.accuracy:.3f}"
        f"  {step.images_per_second:.0f} images/s  {timedelta(seconds=round(left))} left"
    )


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
        "requested": {key: asked[key] for key in ("sparsity", "prune", "lock", "rate", "pull")},
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

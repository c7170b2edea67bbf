"""slt-run: runs a packed ticket on a data set or on image files."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slt_infer.data import Images, load_files, preprocess
from slt_infer.data import load as load_data
from slt_infer.data.folder import image_files
from slt_infer.errors import DataError, SltError
from slt_infer.format import load
from slt_infer.runtime import Plan
from slt_infer.runtime.int8 import quantisation_of
from slt_infer.runtime.plan import BACKENDS, DTYPES, MODES
from slt_infer.search.result import find, load_predictions
from slt_infer.ticket import Ticket
from slt_infer.tools import cli, tables

SHOWN = 20  # images whose classes a person is told
LEFT = "one multiplication per output is left; slt-export --pow2 removes it"


def show(answer: dict[str, Any]) -> RenderableType:
    lines: list[RenderableType] = []
    results = answer.get("results", [])
    for result in results[:SHOWN]:
        table = Table("class", "share", box=None)
        for row in result["top"]:
            table.add_row(tables.plain(row["class"]), f"{row['probability']:.1%}")
        name = tables.plain(result["file"])
        lines += [Text.assemble(name, style="bold", overflow="fold", no_wrap=True), table]
    if len(results) > SHOWN:
        lines.append(Text(f"the first {SHOWN} of {len(results):,} images; --json gives all"))
    if "accuracy" in answer:
        lines.append(
            Text(f"{answer['accuracy']:.2%} of {cli.count(answer['images'], 'image')} right", style="bold")
        )
    if "predictions" in answer:
        lines.append(Text(" ".join(map(str, answer["predictions"]))))
    if "against" in answer:
        compared = answer["against"]
        lines.append(Text(f"{compared['same']} of {answer['images']} predictions as the trainer's"))
        lines += [
            Text(f"{name}: {' '.join(map(str, compared[key]))}")
            for name, key in (("different images", "different"), ("near ties", "near_ties"))
            if len(compared[key])
        ]
    counted = answer["peak_weight_bytes"] is not None
    by_additions = answer["dtype"] == "int8" and answer["multiplierless"]  # in f32 it goes without saying
    lines += [
        Text(f"{cli.count(answer['images'], 'image')}, {answer['ms_per_image']:.3f} ms each"),
        Text(
            f"{answer['dtype']}{', multiplierless' if by_additions else ''}, {answer['mode']} on "
            f"{answer['backend']} ({answer['isa']}), {cli.count(answer['threads'], 'thread')}"
        ),
        *([Text(LEFT)] if by_additions and not answer["pow2"] else []),
        *([Text(f"at most {answer['peak_weight_bytes']:,} bytes of weights")] if counted else []),
        Text(f"{answer['max_rss_bytes'] / 1e6:,.0f} MB of memory in all"),
    ]
    return Group(*lines)


@cli.command(
    "slt-run",
    example=["slt-run net.slt --data fashion-mnist --limit 1000", "slt-run net.slt photo.png --topk 3"],
    show=show,
)
def main(
    file: cli.TicketFile,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES", help="Image files, or folders of them, instead of --data."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Data set name, or a file or folder of images."),
    ] = None,
    data_dir: cli.DataDir = None,
    split: Annotated[
        str, typer.Option(help="Part of the data set: test or train.", callback=cli.one_of("test", "train"))
    ] = "test",
    resize: Annotated[
        str | None,
        typer.Option(
            help="Bring images to the network's size by exact, stretch or crop, whatever the ticket says.",
            callback=cli.one_of("exact", "stretch", "crop"),
        ),
    ] = None,
    topk: Annotated[int, typer.Option(help="Classes to name for each image without a label.", min=1)] = 5,
    mode: Annotated[
        str,
        typer.Option(
            help="stream regenerates weights at every use; resident keeps them, at most 2 bits each; "
            "auto is resident where there is memory for it.",
            callback=cli.one_of(*MODES),
        ),
    ] = "auto",
    backend: Annotated[
        str, typer.Option(help="cpu, or the slow reference.", callback=cli.one_of(*BACKENDS))
    ] = "cpu",
    dtype: Annotated[
        str,
        typer.Option(
            help="f32, or int8 activations where the file has scales for them (slt-export --int8).",
            callback=cli.one_of(*DTYPES),
        ),
    ] = "f32",
    multiplierless: Annotated[
        bool,
        typer.Option(
            "--multiplierless",
            help="int8: no multiplications by weights, as in f32; none at all where slt-export had --pow2.",
        ),
    ] = False,
    threads: cli.Threads = 1,
    batch: Annotated[int, typer.Option(help="Images in one call of the network.", min=1)] = 100,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images.", min=1)] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Give every image's predicted class, as its index.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Compare with the predictions that slt-train kept in its run folder."
        ),
    ] = None,
    task: cli.Task = None,
    max_memory: cli.MaxMemory = None,
    as_json: cli.Json = False,
    version: cli.Version = False,
) -> cli.Answer:
    """Runs a packed ticket: accuracy on a labelled data set, or the likeliest classes of other images.

    Weights come from the seed in the file, every product is an addition; in int8 convolutions with long,
    dense rows are dot products, but with --multiplierless. Times are of the network alone, without reading
    and preprocessing.
    """
    if images and data is not None:
        cli.usage("give image files or --data, not both")
    if multiplierless and dtype != "int8":
        cli.usage("--multiplierless is for int8: add --dtype int8; f32 never multiplies by weights")
    ticket = load(file, max_memory=max_memory).task(task or 0)
    if not images and data is None:
        cli.usage("give image files, or a data set by --data")
    pow2 = dtype == "int8" and quantisation_of(ticket, str(file)).pow2
    if dict(ticket.provenance).get("method") == "synthetic":
        cli.note(tables.SYNTHETIC)
    files = _files(images or [])[:limit]
    source = _images(ticket, files, data, data_dir, split, limit, resize)
    net = Plan(
        ticket,
        backend=cast(Any, backend),
        mode=cast(Any, mode),
        threads=threads,
        dtype=cast(Any, dtype),
        multiplierless=multiplierless,
    )
    names = _class_names(ticket, source)
    answer: dict[str, Any] = {"file": file, "network": ticket.network.name, "images": len(source)}
    del ticket  # the plan has its own counted copy of the coded masks
    logits, seconds = _run(net, source, batch)
    predicted = logits.argmax(axis=1)
    if source.labels is not None:
        answer["accuracy"] = float((predicted == source.labels).mean())
    if predictions:
        answer["predictions"] = predicted
    if against:
        answer["against"] = _compare(against, predicted, source.labels)
    if source.labels is None:
        real = logits * net.logit_scale
        answer["results"] = _results(real, files or _numbered(source), names, topk)
    return answer | {
        "ms_per_image": 1000 * seconds / len(source),
        "peak_weight_bytes": net.peak_weight_bytes,
        "max_rss_bytes": _max_rss(),
        "mode": net.mode,
        "backend": net.backend,
        "dtype": net.dtype,
        "multiplierless": net.multiplierless,
        "pow2": pow2,
        "isa": net.isa,
        "threads": threads,
        "batch": batch,
    }


def _files(given: list[Path]) -> list[Path]:
    """The files, and those in the folders. Raises DataError for a folder without images."""
    files = []
    for path in given:
        inside = image_files(path) if path.is_dir() else [path]
        if not inside:
            raise DataError("missing-data", "holds no image files", str(path))
        files += inside
    return files


def _images(
    ticket: Ticket,
    files: list[Path],
    data: str | None,
    data_dir: Path | None,
    split: str,
    limit: int | None,
    resize: str | None,
) -> Images:
    size, rule = ticket.network.input, resize or ticket.preprocessing.resize
    try:
        if data is None:
            return load_files(files, size, rule)
        return load_data(data, split, data_dir, size=size, resize=rule, limit=limit)
    except DataError as error:
        if error.code != "bad-size" or rule != "exact":
            raise
        message = f"{error.message} (height x width); --resize stretch or --resize crop brings it to that"
        raise DataError(error.code, message, error.where) from error


def _numbered(source: Images) -> list[str]:
    return [f"{source.name}, image {i}" for i in range(len(source))]


def _run(net: Plan, source: Images, batch: int) -> tuple[np.ndarray, float]:
    """Logits [N, classes], float32 or int32, and the seconds that the network took."""
    parts, seconds = [], 0.0
    rules, size = net.preprocessing, net.network.input
    with cli.progress("{task.fields[rate]:.0f} images/s") as bar:
        task = bar.add_task("run", total=len(source), rate=0.0)
        for first in range(0, len(source), batch):
            x = preprocess(source.pixels[first : first + batch], rules, size)
            start = time.perf_counter()
            parts.append(net(x))
            seconds += time.perf_counter() - start
            bar.update(task, advance=len(x), rate=(first + len(x)) / seconds)
    return np.concatenate(parts), seconds


def _class_names(ticket: Ticket, source: Images) -> list[str]:
    count = ticket.network.classes
    names = ticket.preprocessing.classes or source.classes
    return list(names) if len(names) == count else [str(i) for i in range(count)]


def _results(
    logits: np.ndarray, files: Sequence[str | Path], names: list[str], topk: int
) -> list[dict[str, Any]]:
    results = []
    for path, row in zip(files, logits, strict=False):
        exact = row.astype(np.float64)
        shares = np.exp(exact - exact.max())
        shares /= shares.sum()
        order = np.argsort(-exact, kind="stable")[:topk]
        top = [
            {"class": names[i], "index": int(i), "logit": float(row[i]), "probability": float(shares[i])}
            for i in order
        ]
        results.append({"file": str(path), "top": top})
    return results


def _compare(run: Path, predicted: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """The trainer's own predictions of the test split beside these.

    near_ties: images whose two largest logits were nearer than 1e-5 of the largest |logit| in the trainer,
    where rounding may decide. Raises SltError where the run has kept none, or for other images.
    """
    folder = run if (run / "predictions.npz").exists() else find(run)
    trainer, count = load_predictions(folder), len(predicted)
    others = labels is not None and not np.array_equal(trainer.labels[:count], labels)
    if others or len(trainer.classes) < count:
        message = f"holds predictions of {len(trainer.classes)} other images: compare on its test split"
        raise SltError("other-images", message, str(folder))
    near = (trainer.top2[:count, 0] - trainer.top2[:count, 1]) < 1e-5 * trainer.largest[:count]
    different = np.flatnonzero(trainer.classes[:count] != predicted)
    return {
        "run": run,
        "same": count - len(different),
        "different": different,
        "near_ties": np.flatnonzero(near),
    }


def _max_rss() -> int:
    """Bytes; the system counts in KiB, but for macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

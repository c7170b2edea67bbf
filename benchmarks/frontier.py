"""The frontier: accuracy against the bytes of the file, for plain, frozen and rate-aware searches.

    python benchmarks/frontier.py --runs FOLDER --network mlp
    python benchmarks/frontier.py --runs FOLDER --network mlp conv2 --report

The first line searches whatever is not finished in FOLDER, then writes docs/results/frontier.{csv,md,svg}
from all that is; the second only writes. Searches are deterministic on a CPU with one thread, and resume.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from slt_infer import data
from slt_infer.format import load
from slt_infer.freeze import placement
from slt_infer.report import size_report
from slt_infer.search import result
from slt_infer.search.settings import Settings, read_recipe, resolve, run_name

DATA = "fashion-mnist"
# conv2 with the learning rate and the validation share of its recipe; else the networks' defaults.
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"arch": "mlp-784-300-100-10", "data": DATA},
    "conv2": read_recipe("conv2-fashion-mnist"),
}
# Epochs and sparsity.
SCHEDULES = {"mlp": ((8, 0.5), (8, 0.9), (25, 0.5), (25, 0.9)), "conv2": ((3, 0.5),)}


@dataclass(frozen=True)
class Kind:
    """One curve of the plot: settings by the label of the point."""

    mark: str
    points: dict[str, dict[str, Any]]


def aware(key: str, *strengths: float) -> dict[str, dict[str, Any]]:
    return {f"{x:g}": {"method": "rate-aware", key: x} for x in strengths}


KINDS = {
    "dense": Kind("s", {"plain": {}}),
    "frozen": Kind("o", {f"{x:.0%}": {"frozen": x} for x in (0.5, 0.7, 0.9)}),
    "rate": Kind("^", aware("rate", 0.0003, 0.001, 0.002, 0.004)),
    "pull": Kind("v", aware("pull", 0.0003, 0.001, 0.002)),
    "both": Kind(
        "D", {f"50% {x}": point | {"frozen": 0.5} for x, point in aware("rate", 0.0003, 0.001, 0.002).items()}
    ),
}
# The point without a price at the end of each curve that is held against freezing.
ENDS = {"rate": ("dense", "plain"), "pull": ("dense", "plain"), "both": ("frozen", "50%")}


@dataclass(frozen=True)
class Row:
    """A finished run. Bytes: of the whole file, of its mask, in the frozen-networks paper's accounting."""

    network: str
    epochs: int
    sparsity: float
    kind: str
    point: str
    seed: int
    test_accuracy: float
    val_accuracy: float
    file_bytes: int
    mask_bytes: int
    paper_bytes: float
    free_weights: int
    mask_bits_prior: float
    mask_bits_iid: float
    seconds: float


@dataclass(frozen=True)
class Mean:
    """A point's seeds together: means; spreads are standard deviations over the seeds."""

    network: str
    epochs: int
    sparsity: float
    kind: str
    point: str
    seeds: int
    accuracy: float
    accuracy_spread: float
    bytes: float
    bytes_spread: float
    paper: float
    prior: float
    iid: float


Case = tuple[str, int, float, str, str, int, Settings]
Panel = tuple[str, int, float]


def grid(networks: Sequence[str], seeds: Sequence[int], lengths: Sequence[int] = ()) -> Iterator[Case]:
    """Of each schedule (of those lengths, if any are given) one seed of all kinds before the next."""
    for network in networks:
        schedules = [pair for pair in SCHEDULES[network] if not lengths or pair[0] in lengths]
        for (epochs, sparsity), seed, (kind, of_kind) in product(schedules, seeds, KINDS.items()):
            for point, changes in of_kind.points.items():
                flags = {"epochs": epochs, "sparsity": sparsity, "seed": seed, "data_seed": seed}
                prune, lock = placement(sparsity, changes.get("frozen", 0.0))
                flags |= {key: value for key, value in changes.items() if key != "frozen"}
                flags |= {"prune": prune, "lock": lock}
                yield network, epochs, sparsity, kind, point, seed, resolve(NETWORKS[network], flags)


def search(cases: Iterable[Case], runs: Path) -> None:
    from slt_infer.search import trainer  # torch: not for a report

    images = [data.load(DATA, split) for split in ("train", "test")]
    for network, epochs, sparsity, kind, point, seed, settings in cases:
        if (runs / run_name(settings) / "result.json").exists():
            continue
        started = time.monotonic()
        _, found = trainer.train(settings, images[0], images[1], runs, threads=1)
        took = time.monotonic() - started
        accuracy = f"{100 * found.summary.test_accuracy:.2f} %"
        print(
            f"{network} {epochs}ep k {sparsity} {kind} {point} seed {seed}: {accuracy}, {took:.0f} s",
            flush=True,
        )


def rows(cases: Iterable[Case], runs: Path) -> list[Row]:
    """Of the finished runs."""
    return [_row(runs / run_name(case[-1]), case) for case in cases if _finished(runs, case)]


def _finished(runs: Path, case: Case) -> bool:
    return (runs / run_name(case[-1]) / "result.json").exists()


def _row(folder: Path, case: Case) -> Row:
    summary = result.load_summary(folder)
    packed = folder.with_suffix(".slt")
    if not packed.exists():
        export = Path(sys.executable).with_name("slt-export")
        subprocess.run([export, folder, "-o", packed, "--json"], check=True, stdout=subprocess.PIPE)
    ticket = load(packed)
    sizes = size_report(ticket)
    metrics = [msgspec.json.decode(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    best = metrics[summary.best_epoch - 1]
    network, epochs, sparsity, kind, point, seed, _ = case
    return Row(
        network=network,
        epochs=epochs,
        sparsity=sparsity,
        kind=kind,
        point=point,
        seed=seed,
        test_accuracy=summary.test_accuracy,
        val_accuracy=summary.val_accuracy,
        file_bytes=packed.stat().st_size,
        mask_bytes=sizes["parts"]["mask"],
        paper_bytes=sizes["paper_bytes"],
        free_weights=ticket.free,
        mask_bits_prior=round(best["mask_bits_prior"], 4),
        mask_bits_iid=round(best["mask_bits_iid"], 4),
        seconds=round(summary.seconds, 1),
    )


def means(found: Sequence[Row]) -> list[Mean]:
    groups: dict[Any, list[Row]] = {}
    for row in found:
        groups.setdefault((row.network, row.epochs, row.sparsity, row.kind, row.point), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: list[Row]) -> Mean:
    first = group[0]

    def both(key: str) -> tuple[float, float]:
        values = [float(getattr(row, key)) for row in group]
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    return Mean(
        first.network,
        first.epochs,
        first.sparsity,
        first.kind,
        first.point,
        len(group),
        *both("test_accuracy"),
        *both("file_bytes"),
        both("paper_bytes")[0],
        both("mask_bits_prior")[0],
        both("mask_bits_iid")[0],
    )


def at_bytes(curve: Sequence[Mean], size: float) -> float | None:
    """Accuracy of a curve at a file size, straight between its points over log(bytes); None outside it."""
    points = sorted((point.bytes, point.accuracy) for point in curve)
    if not points or not points[0][0] <= size <= points[-1][0]:
        return None
    logs, accuracies = np.log([p[0] for p in points]), [p[1] for p in points]
    return float(np.interp(np.log(size), logs, accuracies))


def at_accuracy(curve: Sequence[Mean], accuracy: float) -> float | None:
    """The smallest file of a curve, in bytes, that is so accurate; None if none is, or if all are."""
    points = sorted((point.bytes, point.accuracy) for point in curve)
    for (size, reached), (before, lower) in zip(points[1:], points, strict=False):
        if lower < accuracy <= reached:
            share = (accuracy - lower) / (reached - lower)
            return float(before * (size / before) ** share)
    return None


def write_csv(path: Path, found: Sequence[Row]) -> None:
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in found)


INTRODUCTION = """# Accuracy against file size

Fashion-MNIST, global threshold; means over the seeds ± the standard deviation (n - 1) over them. A seed
changes the source network, the order of the images and the validation split. *Sparsity*: share of the
weights removed. *Frozen*: share of the weights frozen, placed around the sparsity: at 0.5 half of them pruned
and half locked, at 0.9 all pruned, but for 5 locked of 90.
*File*: bytes of the whole `.slt` file as `slt-export RUN` writes it, affines as narrow as keeps the trainer's
predictions on all test images. *Paper*: one bit per free weight and 8 bytes per normalised channel,
the accounting of the paper on frozen source networks. *Prior*, *i.i.d.*: entropy of the mask in bits per
free weight, with 16 equal bins of \\|initial score\\| per layer and with one density per layer, no tables
counted. Rate and pull: [search](../search.md#searches-that-pay-for-bits). Made by

```
{command}
```

{done} of {wanted} runs are finished. {state}

![Accuracy against the bytes of the file](frontier.svg)"""


def page(points: Sequence[Mean], wanted: int, command: str) -> str:
    """The Markdown page."""
    done = sum(point.seeds for point in points)
    state = (
        "Every one is in [frontier.csv](frontier.csv)." if done == wanted else "What is missing is not shown."
    )
    lines = [INTRODUCTION.format(command=command, done=done, wanted=wanted, state=state)]
    for panel in _panels(points):
        lines += ["", f"## {_title(panel)}", "", *_table([p for p in points if _panel(p) == panel])]
    return "\n".join(lines) + "\n"


def _panel(point: Mean) -> Panel:
    return point.network, point.epochs, point.sparsity


def _panels(points: Sequence[Mean]) -> list[Panel]:
    return list(dict.fromkeys(map(_panel, points)))


def _title(panel: Panel) -> str:
    network, epochs, sparsity = panel
    return f"{NETWORKS[network]['arch']}, {epochs} epochs, sparsity {sparsity:g}"


def _table(points: Sequence[Mean]) -> list[str]:
    lines = [
        "| search | | seeds | test accuracy, % | file, bytes | paper, bytes | prior | i.i.d. |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {p.kind} | {p.point} | {p.seeds} "
        f"| {_spread(p, f'{100 * p.accuracy:.2f}', f'{100 * p.accuracy_spread:.2f}')} "
        f"| {_spread(p, f'{p.bytes:,.0f}', f'{p.bytes_spread:,.0f}')} "
        f"| {p.paper:,.0f} | {p.prior:.3f} | {p.iid:.3f} |"
        for p in points
    ]
    lines += [
        "",
        "Against freezing: the curves of rate and of pull, each with the dense point at its end, and of both",
        "(a rate in a source network of which half is frozen), with the frozen 50% at its end; straight",
        "between points over log(bytes). A curve says nothing beyond its smallest file.",
        "",
        "| frozen | curve | at the frozen file's bytes, points of accuracy "
        "| file as accurate, bytes | of the frozen file | of the paper's bytes | 0.5 points worse |",
        "|---|---|---|---|---|---|---|",
    ]
    for frozen_point, kind in product([p for p in points if p.kind == "frozen"], ENDS):
        end = ENDS[kind]
        curve = [p for p in points if p.kind == kind or (p.kind, p.point) == end]
        if len(curve) > 1:
            lines.append(_against(frozen_point, kind, curve))
    return lines


def _spread(point: Mean, mean: str, spread: str) -> str:
    return f"{mean} ± {spread}" if point.seeds > 1 else mean


def _against(point: Mean, kind: str, curve: Sequence[Mean]) -> str:
    there, size = at_bytes(curve, point.bytes), at_accuracy(curve, point.accuracy)
    near = at_accuracy(curve, point.accuracy - 0.005)
    cells = [
        "–" if there is None else f"{100 * (there - point.accuracy):+.2f}",
        "–" if size is None else f"{size:,.0f}",
        *("–" if size is None else f"{size / other:.2f}" for other in (point.bytes, point.paper)),
        "–" if near is None else f"{near / point.paper:.2f}",
    ]
    return f"| {point.point} | {kind} | {' | '.join(cells)} |"


def plot(path: Path, points: Sequence[Mean]) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "frontier", "svg.fonttype": "none", "font.size": 9})
    panels = _panels(points)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.8 * len(panels), 4.2), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        here = [p for p in points if _panel(p) == panel]
        for number, (kind, look) in enumerate(KINDS.items()):
            curve = sorted((p for p in here if p.kind == kind), key=lambda p: p.bytes)
            if curve:
                _curve(axis, kind, look.mark, f"C{number}", curve)
        paper = [p for p in here if p.kind in ("dense", "frozen")]
        axis.plot(
            [p.paper for p in paper], [100 * p.accuracy for p in paper], "kx", label="paper's accounting"
        )
        axis.set(xscale="log", xlabel="bytes of the file")
        axis.set_title(_title(panel).replace(" epochs, ", " epochs,\n"))
        ticks = [1000 * 2**i for i in range(1, 9)]
        axis.set_xticks(ticks, [f"{tick // 1000}k" for tick in ticks])
        axis.minorticks_off()
        sizes = [size for p in here for size in (p.bytes, p.paper)]
        axis.set_xlim(min(sizes) / 1.2, max(sizes) * 1.2)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("test accuracy, %")
    for axis in axes[0]:
        axis.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    # matplotlib ends lines of path data with blanks
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _curve(axis: Any, kind: str, mark: str, colour: str, curve: Sequence[Mean]) -> None:
    x, y = [p.bytes for p in curve], [100 * p.accuracy for p in curve]
    spread = [100 * p.accuracy_spread for p in curve]
    axis.errorbar(x, y, yerr=spread, marker=mark, color=colour, label=kind, capsize=2, linewidth=1)
    for p in curve:
        axis.annotate(p.point, (p.bytes, 100 * p.accuracy), (4, -8), textcoords="offset points", fontsize=6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of runs, kept from call to call")
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=["mlp"])
    parser.add_argument("--epochs", nargs="+", type=int, default=[], help="only schedules of these lengths")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--report", action="store_true", help="search nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "results")
    asked = parser.parse_args()
    cases = list(grid(asked.network, asked.seeds, asked.epochs))
    if not asked.report:
        search(cases, asked.runs)
    found = rows(cases, asked.runs)
    if not found:
        parser.error(f"no finished run in {asked.runs}")
    points = means(found)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_csv(asked.out / "frontier.csv", found)
    command = f"python benchmarks/frontier.py --runs FOLDER --network {' '.join(asked.network)}"
    (asked.out / "frontier.md").write_text(page(points, len(cases), command))
    plot(asked.out / "frontier.svg", points)


if __name__ == "__main__":
    main()

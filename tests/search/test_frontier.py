"""benchmarks/frontier.py: reading values off a curve, and the page and the plot of finished runs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def frontier() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "frontier.py"
    spec = importlib.util.spec_from_file_location("frontier", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def points(frontier: ModuleType) -> list:
    """A curve through (1000 B, 80 %), (4000 B, 88 %) and a frozen point at (2000 B, 83 %)."""

    def row(kind: str, point: str, seed: int, accuracy: float, size: int):
        return frontier.Row(
            "mlp", 8, 0.5, kind, point, seed, accuracy, 0.9, size, 0, 2500.0, 1, 0.3, 0.9, 1.0
        )

    return frontier.means(
        [
            *(row("dense", "plain", seed, 0.88 + (seed - 1) / 100, 4000) for seed in range(3)),
            row("rate", "0.001", 0, 0.80, 1000),
            row("frozen", "50%", 0, 0.83, 2000),
        ]
    )


def test_means(points: list) -> None:
    assert [point.seeds for point in points] == [3, 1, 1]
    assert points[0].accuracy == pytest.approx(0.88)
    assert points[0].accuracy_spread == pytest.approx(0.01)
    assert points[1].accuracy_spread == 0


def test_reading_a_curve(frontier: ModuleType, points: list) -> None:
    """Straight over log(bytes): half way from 1000 to 4000 is 2000."""
    curve = points[:2]
    assert frontier.at_bytes(curve, 2000) == pytest.approx(0.84)
    assert frontier.at_accuracy(curve, 0.84) == pytest.approx(2000)
    assert frontier.at_accuracy(curve, 0.88) == pytest.approx(4000)
    for outside in (0.79, 0.80, 0.89):
        assert frontier.at_accuracy(curve, outside) is None
    for outside in (999, 4001):
        assert frontier.at_bytes(curve, outside) is None


def test_page(frontier: ModuleType, points: list) -> None:
    page = frontier.page(points, 9, "the command")
    assert "5 of 9 runs" in page
    assert "| dense | plain | 3 | 88.00 ± 1.00 | 4,000 ± 0 | 2,500 |" in page
    # 83 % is three eighths of the way up: 1000 * 4 ** (3 / 8) bytes; 82.5 % five sixteenths: 1542 bytes
    assert "| 50% | rate | +1.00 | 1,682 | 0.84 | 0.67 | 0.62 |" in page


def test_plot_is_small_and_the_same_every_time(frontier: ModuleType, points: list, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    moved = [replace(point, epochs=25) for point in points]
    for name in ("a.svg", "b.svg"):
        frontier.plot(tmp_path / name, [*points, *moved])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").stat().st_size < 200_000


def test_grid_has_no_run_twice(frontier: ModuleType) -> None:
    names = [frontier.run_name(case[-1]) for case in frontier.grid(["mlp", "conv2"], [0, 1, 2])]
    assert len(set(names)) == len(names) == 5 * 3 * 14

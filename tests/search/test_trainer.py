"""The search loop: what it finds, what it writes, and that no kill changes the result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slt_infer import freeze
from slt_infer.errors import SltError
from slt_infer.search import batches, result, trainer
from slt_infer.search.settings import Settings, resolve, run_name


@dataclass(frozen=True)
class Blobs:
    """Images of `classes` noisy patterns: learnable in a few steps."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    name: str = "blobs"


def blobs(count: int, seed: int, shape: tuple[int, int, int] = (1, 6, 6)) -> Blobs:
    random = np.random.Generator(np.random.PCG64(seed))
    patterns = np.random.Generator(np.random.PCG64(0)).integers(40, 216, (4, *shape))
    labels = random.integers(0, 4, count)
    pixels = np.clip(patterns[labels] + random.integers(-60, 61, (count, *shape)), 0, 255)
    return Blobs(pixels.astype(np.uint8), labels, ("a", "b", "c", "d"))


MLP = {
    "arch": "mlp-36-24-16-4",
    "prune": 0.2,
    "lock": 0.2,
    "batch": 16,
    "epochs": "4ep",
    "val_share": 0.2,
    "data": "blobs",
}


def train(out: Path, settings: Settings, shape: tuple[int, int, int] = (1, 6, 6), **more):
    return trainer.train(settings, blobs(300, 1, shape), blobs(100, 2, shape), out, **more)


def test_finds_a_ticket_and_writes_the_run_folder(tmp_path: Path) -> None:
    settings = resolve(MLP, {})
    steps = []
    folder, found = train(tmp_path, settings, observe=steps.append)
    assert folder == tmp_path / run_name(settings)
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == [
        "config.json",
        "metrics.jsonl",
        "predictions.npz",
        "result.json",
        "result.npz",
    ]
    summary = found.summary
    weights = 36 * 24 + 24 * 16 + 16 * 4
    assert sum(layer.kept for layer in summary.layers) == weights - weights // 2
    assert summary.density == pytest.approx(0.5)
    assert summary.sparsity + summary.density == 1
    assert summary.test_accuracy > 0.9
    assert (summary.iterations, summary.epochs) == (60, 4.0)
    assert [affine is not None for affine in found.affines] == [True, True, False]

    rows = [msgspec.json.decode(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    assert [row["iteration"] for row in rows] == [15, 30, 45, 60]
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert (best["epoch"], best["val_accuracy"]) == (summary.best_epoch, summary.val_accuracy)
    assert [step.row for step in steps if step.row] == rows

    config = msgspec.json.decode((folder / "config.json").read_bytes())
    assert config["differences"] == {**MLP, "arch": settings.arch}
    assert config["data"]["validation"] == 60
    with np.load(folder / "predictions.npz") as written:
        assert (written["predictions"] == written["labels"]).mean() == summary.test_accuracy
        np.testing.assert_array_equal(written["labels"], blobs(100, 2).labels)
        assert (written["top2"][:, 0] >= written["top2"][:, 1]).all()
        assert (written["largest"] >= written["top2"][:, 0]).all()


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    settings = resolve(MLP, {"epochs": "1ep"})
    folder, first = train(tmp_path, settings)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    steps = []
    _, second = train(tmp_path, settings, observe=steps.append)
    assert steps == []
    assert second.summary == first.summary
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": "7it"},
        {"method": "edge-popup-local", "rule": "uniform"},
        {"generator": "threefry4x32-12", "seed": 2**64 - 1},
        {"batch": 240},
        {"prune": 0.0, "lock": 0.0},
        {"method": "rate-aware"},
        {"rate": 0.01, "pull": 0.001, "prune": 0.0, "lock": 0.0},
    ],
    ids=str,
)
def test_settings(tmp_path: Path, changes: dict) -> None:
    _, found = train(tmp_path, resolve({**MLP, "epochs": "1ep", **changes}, {}))
    assert found.summary.density == pytest.approx(0.5, abs=1e-3)
    if changes.get("epochs") == "7it":
        assert found.summary.iterations == 7


def test_rate_zero_is_edge_popup_to_the_bit(tmp_path: Path) -> None:
    changes = ({"method": "edge-popup"}, {"method": "rate-aware", "rate": 0.0})
    folders = [train(tmp_path, resolve({**MLP, **change}, {}))[0] for change in changes]
    assert folders[0] != folders[1]
    for name in ("result.npz", "predictions.npz", "metrics.jsonl"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def one_step(changes: dict) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Each layer's scores before and after a search's first step."""
    images = blobs(300, 1)
    search = trainer.Search(resolve({**MLP, **changes}, {}), images, images, Path(), "cpu")
    scores = search.net.scores.detach().numpy()
    before = [scores[layer.span].copy() for layer in search.net.each()]
    search._step(*next(batches.training_batches(search.training, 16, 0, 0, 0, False)))
    return before, [scores[layer.span] for layer in search.net.each()]


def test_a_step_is_edge_popups_and_then_the_threshold() -> None:
    start, plain = one_step({"weight_decay": 0.0})
    _, aware = one_step({"weight_decay": 0.0, "rate": 0.05})
    for fan_in, began, stepped, drawn in zip((36, 24, 16), start, plain, aware, strict=True):
        step = 0.1 * 0.05 * np.sqrt(2 / fan_in)
        moved = stepped.astype(np.float64) - began
        expected = began + np.sign(moved) * np.maximum(np.abs(moved) - step, 0)
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=2e-7)
        assert 0 < (drawn == began).mean() < 1


def test_pull_stands_instead_of_weight_decay() -> None:
    """At the start nothing pulls: the first step has neither that nor the usual weight decay."""
    _, plain = one_step({"weight_decay": 0.0})
    _, pulled = one_step({"pull": 0.5})
    np.testing.assert_allclose(np.concatenate(pulled), np.concatenate(plain), rtol=0, atol=1e-7)


def test_a_rate_makes_masks_cheap(tmp_path: Path) -> None:
    dense = {**MLP, "prune": 0.0, "lock": 0.0}
    costs = []
    for rate in (0.0, 0.5, 50.0):
        folder, _ = train(tmp_path, resolve({**dense, "method": "rate-aware", "rate": rate}, {}))
        row = msgspec.json.decode((folder / "metrics.jsonl").read_bytes().splitlines()[-1])
        assert 0.5 < row["mask_bits_iid"] <= 1
        costs.append(row["mask_bits_prior"])
    assert costs[0] > costs[1] > costs[2]
    assert costs[2] < 1 / 16 + 0.01  # no score moves: of 16 bins one is cut


def test_colour_images_are_augmented(tmp_path: Path) -> None:
    shape, recipe = (3, 8, 8), {"arch": "conv2@0.05", "epochs": "4it", "batch": 16}
    masks = [
        train(tmp_path, resolve({**recipe, "augment": augment}, {}), shape)[1].masks
        for augment in ("auto", "crop-flip", "none")
    ]
    same = [all(map(np.array_equal, masks[0], other)) for other in masks[1:]]
    assert same == [True, False]


class Killed(BaseException):
    pass


def interrupted(out: Path, settings: Settings, at: list[int], shape=(1, 6, 6)) -> result.Result:
    """Runs that end abruptly after the given iterations of the whole search, then one that finishes."""
    for iteration in at:
        with pytest.MonkeyPatch.context() as patch:
            step = trainer.Search._step

            def dies(self, *batch, step=step, iteration=iteration):
                if self.iteration >= iteration:
                    raise Killed
                step(self, *batch)

            patch.setattr(trainer.Search, "_step", dies)
            with pytest.raises(Killed):
                train(out, settings, shape, checkpoint_seconds=0)
    return train(out, settings, shape, checkpoint_seconds=0)[1]


@pytest.mark.parametrize(
    ("recipe", "shape", "at"),
    [
        (MLP, (1, 6, 6), [0, 1, 15, 16, 40, 59]),
        ({**MLP, "rate": 0.5, "pull": 0.01}, (1, 6, 6), [0, 1, 15, 40]),
        ({"arch": "resnet18-cifar@0.1", "epochs": "8it", "batch": 60, "sparsity": 0.3}, (3, 8, 8), [3, 4, 6]),
        ({"arch": "conv2@0.05", "epochs": "8it", "batch": 60, "lr": 0.1}, (3, 8, 8), [5]),
    ],
    ids=["mlp", "rate-aware", "resnet", "conv"],
)
def test_interruptions_do_not_change_a_bit(tmp_path: Path, recipe: dict, shape, at: list[int]) -> None:
    settings = resolve(recipe, {})
    train(tmp_path / "whole", settings, shape)
    interrupted(tmp_path / "parts", settings, at, shape)
    whole, parts = (tmp_path / name / run_name(settings) for name in ("whole", "parts"))
    for name in ("result.npz", "predictions.npz", "metrics.jsonl"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_kill_between_checkpoints_loses_only_what_came_after(tmp_path: Path) -> None:
    """Metrics written after the last checkpoint come again, once."""
    settings = resolve(MLP, {})
    train(tmp_path / "whole", settings)
    with pytest.MonkeyPatch.context() as patch:
        save = trainer.Search.save

        def dies(self) -> None:
            if self.iteration == 30:
                raise Killed  # the row of epoch 2 is in metrics.jsonl, its checkpoint is not written
            save(self)

        patch.setattr(trainer.Search, "save", dies)
        with pytest.raises(Killed):
            train(tmp_path / "parts", settings)
    folder = tmp_path / "parts" / run_name(settings)
    assert len((folder / "metrics.jsonl").read_bytes().splitlines()) == 2
    train(tmp_path / "parts", settings)
    for name in ("result.npz", "metrics.jsonl"):
        whole = tmp_path / "whole" / run_name(settings) / name
        assert (folder / name).read_bytes() == whole.read_bytes()


def test_a_kill_while_finishing(tmp_path: Path) -> None:
    settings = resolve(MLP, {"epochs": "1ep"})
    train(tmp_path / "whole", settings)
    for call in ("write_arrays", "save"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer.result, call, lambda *_: (_ for _ in ()).throw(Killed()))
            with pytest.raises(Killed):
                train(tmp_path / "parts", settings)
    folder, _ = train(tmp_path / "parts", settings)
    assert len((tmp_path / "parts/results.csv").read_text().splitlines()) == 2
    whole = tmp_path / "whole" / folder.name / "result.npz"
    assert (folder / "result.npz").read_bytes() == whole.read_bytes()


PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
import test_trainer as t
from pathlib import Path
t.train(Path(sys.argv[2]), t.resolve({**t.MLP, "epochs": "40ep"}, {}), checkpoint_seconds=0,
        observe=lambda step: (print("step", flush=True), time.sleep(0.01)))
"""


def test_killed_processes_do_not_change_a_bit(tmp_path: Path) -> None:
    """SIGKILL at arbitrary moments, the next process goes on."""
    settings = resolve({**MLP, "epochs": "40ep"}, {})
    folder, _ = train(tmp_path / "whole", settings)
    for seen in (1, 17, 31):
        command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path / "parts")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(seen):
                process.stdout.readline()
            time.sleep(0.003 * seen)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "parts" / folder.name / "result.json").exists()
    (tmp_path / "parts" / folder.name / ".checkpoint.pt.1.tmp").write_bytes(b"half")
    resumed, _ = train(tmp_path / "parts", settings)
    for name in ("result.npz", "predictions.npz", "metrics.jsonl"):
        assert (resumed / name).read_bytes() == (folder / name).read_bytes(), name
    assert not list(resumed.glob("*.tmp"))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(freeze.RatioError):
        train(tmp_path, resolve({**MLP, "prune": 0.6}, {}))
    with pytest.raises(SltError) as caught:
        train(tmp_path, resolve({**MLP, "arch": "mlp-37-4"}, {}))
    assert caught.value.code == "bad-network"
    settings = resolve(MLP, {})
    folder = tmp_path / run_name(settings)
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SltError) as caught:
        train(tmp_path, settings)
    assert caught.value.code == "bad-checkpoint"
    assert "delete it" in caught.value.message
    for useless in ({"batch": 241}, {"sparsity": 0.25, "prune": 0.25, "lock": 0.75}):
        with pytest.raises(SltError) as caught:
            train(tmp_path, resolve({**MLP, **useless}, {}))
        assert caught.value.code == "bad-recipe"


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    settings = resolve(MLP, {})
    interrupted_data = blobs(300, 1)
    with pytest.raises(Killed):
        trainer.train(
            settings,
            interrupted_data,
            blobs(100, 2),
            tmp_path,
            observe=lambda step: (_ for _ in ()).throw(Killed()),
        )
    with pytest.raises(SltError) as caught:
        trainer.train(settings, blobs(300, 3), blobs(100, 2), tmp_path)
    assert caught.value.code == "other-run"


def test_evaluation_is_float32(tmp_path: Path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    train(tmp_path, resolve({**MLP, "epochs": "1it"}, {}))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_speed_is_of_the_last_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a clock that gains 0.1 s at each look, then 1 s."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.1 if now[0] < 10 else 1.0
        return now[0]

    monkeypatch.setattr(trainer.time, "monotonic", clock)
    steps = []
    train(tmp_path, resolve({**MLP, "epochs": "200it", "batch": 32}, {}), observe=steps.append)
    assert steps[2].images_per_second == pytest.approx(320, rel=0.3)
    assert steps[-1].images_per_second == pytest.approx(32, rel=0.3)


def test_a_run_from_before_a_setting_existed_is_still_read(tmp_path: Path) -> None:
    settings = resolve(MLP, {"epochs": "1ep"})
    folder, found = train(tmp_path, settings)
    config = json.loads((folder / "config.json").read_bytes())
    for key in ("rate", "pull", "freeze_law"):
        del config["settings"][key]
    (folder / "config.json").write_text(json.dumps(config))
    assert train(tmp_path, settings)[1].summary == found.summary

"""Files of a run folder: whole or absent, and refused when damaged."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from slt_infer.errors import SltError
from slt_infer.files import write_atomically
from slt_infer.search import result, run
from slt_infer.search.result import LayerCounts, Result, Summary
from slt_infer.search.settings import Settings
from slt_infer.ticket import Freeze, Preprocessing, Source


def example() -> Result:
    counts = (LayerCounts("fc1", 12, 2, 3, 7, 5), LayerCounts("fc2", 6, 0, 0, 6, 3))
    summary = Summary(
        network="mlp-4-3-2",
        input=(1, 2, 2),
        classes=2,
        source=Source("threefry4x32", 13, 2**64 - 1),
        freezes=(Freeze(8, 43, 64), Freeze()),
        preprocessing=Preprocessing((0.5,), (0.25,), "exact", ("a", "b")),
        layers=counts,
        method="edge-popup",
        sparsity=10 / 18,
        density=8 / 18,
        val_accuracy=0.75,
        test_accuracy=0.5,
        epochs=2.5,
        best_epoch=2,
        iterations=10,
        seconds=1.5,
        data="two, classes",
        settings={"prune": 0.1, "lock": 0.2, "rule": "epl", "seed": 2**64 - 1, "sparsity": 0.5},
        provenance={"torch": "2"},
    )
    masks = [np.arange(7) % 3 == 1, np.arange(6) % 2 == 0]
    return Result(summary, masks, [np.arange(6, dtype=np.float32).reshape(2, 3), None])


def test_round_trip(tmp_path: Path) -> None:
    saved = example()
    result.save(tmp_path, saved)
    found = result.load(tmp_path)
    assert found.summary == saved.summary
    for a, b in zip(found.masks, saved.masks, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found.affines[0], saved.affines[0])
    assert found.affines[1] is None
    assert found.network.layers[0].weights == 12
    assert sorted(os.listdir(tmp_path)) == ["result.json", "result.npz"]


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        result.save(tmp_path / name, example())
    assert (tmp_path / "a/result.npz").read_bytes() == (tmp_path / "b/result.npz").read_bytes()


def code_of(folder: Path) -> str:
    with pytest.raises(SltError) as caught:
        result.load(folder)
    return caught.value.code


def test_refuses_what_is_not_a_whole_result(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "no-result"
    saved = example()
    result.save(tmp_path, saved)
    npz, json = tmp_path / "result.npz", tmp_path / "result.json"
    whole = npz.read_bytes()
    for damaged in (b"", whole[:-30], b"\x80\x04N."):
        npz.write_bytes(damaged)
        assert code_of(tmp_path) == "bad-result"
    result.save(tmp_path, Result(saved.summary, [saved.masks[0][:6], saved.masks[1]], saved.affines))
    assert code_of(tmp_path) == "bad-result"
    result.save(tmp_path, Result(saved.summary, [~saved.masks[0], saved.masks[1]], saved.affines))
    assert code_of(tmp_path) == "bad-result"
    json.write_text('{"network": 3}')
    assert code_of(tmp_path) == "bad-result"


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def torn(file) -> None:
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, torn)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["file"])

    order = []
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert order == ["fsync", "replace", "fsync"]  # the content before the name, then the folder


def test_the_table_has_one_row_per_run(tmp_path: Path) -> None:
    summary = example().summary
    for name in ("first", "second", "first"):
        run.add_to_table(tmp_path / name, summary)
    with open(tmp_path / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["first", "second"]
    assert tuple(rows[0]) == run.COLUMNS
    assert (rows[0]["data"], rows[0]["seed"]) == ("two, classes", str(2**64 - 1))
    assert (float(rows[1]["sparsity"]), rows[1]["prune"]) == (summary.sparsity, "0.1")


def test_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    config = {"settings": msgspec.to_builtins(Settings()), "data": {"crc32": 1}, "threads": 1}
    run.write_config(tmp_path, config)
    run.write_config(tmp_path, {**config, "threads": 2})
    assert msgspec.json.decode((tmp_path / "config.json").read_bytes())["threads"] == 1
    with pytest.raises(SltError) as caught:
        run.write_config(tmp_path, {**config, "data": {"crc32": 2}})
    assert caught.value.code == "other-run"


def test_a_run_has_one_process(tmp_path: Path) -> None:
    with run.locked(tmp_path / "lock", wait=False):
        with pytest.raises(SltError) as caught, run.locked(tmp_path / "lock", wait=False):
            pass
        assert caught.value.code == "busy"
    with run.locked(tmp_path / "lock", wait=False):
        pass

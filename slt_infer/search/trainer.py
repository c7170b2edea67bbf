"""The search loop: steps, validation, checkpoints, and the result of the best epoch."""

from __future__ import annotations

import math
import platform
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from slt_infer import freeze, models
from slt_infer.errors import SltError
from slt_infer.files import write_atomically
from slt_infer.search import batches, cost, result, run
from slt_infer.search.batches import Examples
from slt_infer.search.module import MaskedNetwork
from slt_infer.search.rate import Anchor
from slt_infer.search.result import LayerCounts, Result, Summary
from slt_infer.search.settings import Settings, differences, duration, run_name
from slt_infer.search.source import score_bound
from slt_infer.ticket import Preprocessing, Source

EVALUATION_BATCH = 250
CHECKPOINT_SECONDS = 60.0
STRETCH_SECONDS = 10.0


class Images(Protocol):
    """What is needed of a split of a data set; slt_infer.data.Images is one."""

    @property
    def pixels(self) -> NDArray[np.uint8]: ...
    @property
    def labels(self) -> NDArray[np.int64] | None: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Step:
    """Where a search is. loss, accuracy: of the epoch so far; images_per_second: of the last seconds; row:
    the metrics, where an epoch just ended.
    """

    iteration: int
    iterations: int
    epoch: int
    loss: float
    accuracy: float
    images_per_second: float
    row: dict[str, Any] | None


Observer = Callable[[Step], None]


def train(
    settings: Settings,
    train_images: Images,
    test_images: Images,
    out: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    observe: Observer = lambda step: None,
    begin: Callable[[Search], None] = lambda search: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> tuple[Path, Result]:
    """Searches a ticket; returns the run folder in `out` and the result of the epoch with the best validation
    accuracy.

    A finished run is only read, once settings and data are found to be its own; an unfinished one goes on
    from its checkpoint, on a CPU to the very bits that it would have had without the interruption.
    Everything is float32, without autocast and without TF32. `begin` is called before the first step. Raises
    SltError and its kin for settings, data and folders that do not fit.
    """
    folder = out / run_name(settings)
    _check_device(device)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    search = Search(settings, train_images, test_images, folder, device)
    folder.mkdir(parents=True, exist_ok=True)
    with run.locked(folder / ".lock", wait=False):
        run.write_config(folder, {**search.config(), "threads": threads, "device": device})
        if (folder / "result.json").exists():
            return folder, result.load(folder)
        for left in folder.glob(".*.tmp"):  # by a kill in the middle of a write
            left.unlink()
        search.restore()
        begin(search)
        search.work(observe, checkpoint_seconds)
        return folder, search.finish()


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SltError("bad-device", f"cannot be used here: {reason}", device) from error


class Search:
    """One search. What `save` writes is its state; all else follows from the settings and the data."""

    def __init__(
        self, settings: Settings, train_images: Images, test_images: Images, folder: Path, device: str
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        freeze.check(settings.sparsity, settings.prune, settings.lock)
        everything = batches.examples(train_images.pixels, train_images.labels, train_images.name, device)
        self.test = batches.examples(test_images.pixels, test_images.labels, test_images.name, device)
        training, validation = batches.split(len(everything), settings.val_share, settings.data_seed)
        self.training, self.validation = everything.take(training), everything.take(validation)
        self.data: dict[str, Any] = {
            "name": train_images.name,
            "training": len(training),
            "validation": len(validation),
            "test": len(self.test),
            "crc32": zlib.crc32(
                everything.labels.cpu().numpy().data, zlib.crc32(everything.pixels.cpu().numpy().data)
            ),
        }
        mean, std = batches.channel_statistics(self.training.pixels)
        self.preprocessing = Preprocessing(mean, std, settings.resize, tuple(train_images.classes))
        self.normalise = batches.Normaliser(self.preprocessing, device)
        self._build(train_images)
        self._plan()

    def _build(self, images: Images) -> None:
        settings = self.settings
        channels, height, width = images.pixels.shape[1:]
        classes = len(images.classes) or int(self.training.labels.max()) + 1
        self.graph = models.network(settings.arch, (channels, height, width), classes)
        self.source = Source.named(settings.generator, settings.seed, settings.freeze_law)
        self.freezes = freeze.thresholds(
            self.graph.layers, settings.prune, settings.lock, settings.rule, settings.freeze_bits
        )
        self.net = MaskedNetwork(
            self.graph,
            self.source,
            self.freezes,
            settings.sparsity,
            settings.method,
            settings.score_scale,
        ).to(self.device)
        if not self.net.scores.numel():
            message = "every weight is frozen: nothing is left to search"
            raise SltError("bad-recipe", message, "prune, lock")
        self.optimizer = torch.optim.SGD(
            [self.net.scores],
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=0.0 if settings.pull else settings.weight_decay,
            fused=True,
        )
        self._remember_start()

    def _remember_start(self) -> None:
        """Keeps of the initial scores what is asked for: their bins, and the scores if the search pays for
        bits.
        """
        settings, start = self.settings, self.net.scores.detach()
        bounds = [score_bound(shape, settings.score_scale) for shape in self.graph.layers]
        spans = [layer.span for layer in self.net.each()]
        self.bins = [
            cost.score_bins(start[span].cpu().numpy(), bound)
            for span, bound in zip(spans, bounds, strict=True)
        ]
        self.anchor: Anchor | None = None
        if settings.rate or settings.pull:
            deviations = [bound / math.sqrt(3) for bound in bounds]
            layers = list(zip(spans, deviations, strict=True))
            self.anchor = Anchor(start.clone(), layers, settings.rate, settings.pull)

    def _plan(self) -> None:
        settings = self.settings
        if settings.batch > len(self.training):
            message = f"{settings.batch} images, but the training part has {len(self.training)}"
            raise SltError("bad-recipe", message, "batch")
        self.per_epoch = batches.batches_per_epoch(len(self.training), settings.batch)
        number, unit = duration(settings.epochs)
        self.iterations = number * self.per_epoch if unit == "ep" else number
        colour = self.graph.input[0] == 3
        self.augment = settings.augment == "crop-flip" or (settings.augment == "auto" and colour)
        self.iteration, self.seconds = 0, 0.0
        self.saved = 0  # the checkpoint's iteration
        self.sums = torch.zeros(
            2, dtype=torch.float64, device=self.device
        )  # loss and hits of the epoch so far
        self.seen = 0
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"val_accuracy": -1.0, "val_loss": math.inf}

    def config(self) -> dict[str, Any]:
        """What config.json records."""
        return {
            "settings": msgspec.to_builtins(self.settings),
            "differences": differences(self.settings),
            "data": self.data,
            "iterations": self.iterations,
            "preprocessing": self.preprocessing,
            "source": self.source,
            "layers": [
                {
                    "name": shape.name,
                    "weights": shape.weights,
                    "freeze": made,
                    "pruned": layer.pruned,
                    "locked": layer.locked,
                    "free": layer.free,
                }
                for shape, made, layer in zip(self.graph.layers, self.freezes, self.net.each(), strict=True)
            ],
            "versions": _versions(),
        }

    def work(self, observe: Observer, checkpoint_seconds: float) -> None:
        """Runs the iterations that are left."""
        saved = started = time.monotonic()
        before = self.seconds
        marks = deque([(started, self.iteration)])  # of the last seconds, for their speed
        while self.iteration < self.iterations:
            epoch, step = divmod(self.iteration, self.per_epoch)
            self.net.train()
            for pixels, labels in batches.training_batches(
                self.training, self.settings.batch, epoch, step, self.settings.data_seed, self.augment
            ):
                self._step(pixels, labels)
                last = self.iteration in (self.iterations, (epoch + 1) * self.per_epoch)
                row = self._end_epoch(epoch + 1) if last else None
                now = time.monotonic()
                self.seconds = before + now - started
                if last or now - saved >= checkpoint_seconds:
                    self.save()
                    saved = now
                if last or self.iteration % 10 == 0 or now - marks[-1][0] > 1:
                    since, first = marks[0]
                    rate = (self.iteration - first) * self.settings.batch / max(now - since, 1e-9)
                    marks.append((now, self.iteration))
                    while len(marks) > 1 and now - marks[0][0] > STRETCH_SECONDS:
                        marks.popleft()
                    loss, accuracy = (row["train_loss"], row["train_accuracy"]) if row else self._means()
                    observe(Step(self.iteration, self.iterations, epoch + 1, loss, accuracy, rate, row))
                if last:
                    break

    def _step(self, pixels: Tensor, labels: Tensor) -> None:
        lr = self.settings.lr * 0.5 * (1 + math.cos(math.pi * self.iteration / self.iterations))
        self.optimizer.param_groups[0]["lr"] = lr
        logits = self.net(self.normalise(pixels))
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        if self.anchor is None:
            self.optimizer.step()
        else:
            scores = self.net.scores
            assert scores.grad is not None
            self.anchor.add_decay(scores, scores.grad)
            self.optimizer.step()
            self.anchor.draw_back(scores, lr)
        hits = torch.count_nonzero(logits.detach().argmax(1) == labels)
        self.sums += torch.stack([loss.detach().double() * len(labels), hits.double()])
        self.seen += len(labels)
        self.iteration += 1

    def _means(self) -> tuple[float, float]:
        loss, hits = self.sums.tolist()
        return loss / max(self.seen, 1), hits / max(self.seen, 1)

    def _end_epoch(self, epoch: int) -> dict[str, Any]:
        """Validates, remembers the best epoch so far (lower loss at equal accuracy), adds a metrics row."""
        self.net.eval()
        self.net.select()
        logits = self._logits(self.validation)
        accuracy = float((logits.argmax(1) == self.validation.labels).double().mean())
        val_loss = float(F.cross_entropy(logits, self.validation.labels))
        if (accuracy, -val_loss) > (self.best["val_accuracy"], -self.best["val_loss"]):
            self.best = {
                "val_accuracy": accuracy,
                "val_loss": val_loss,
                "epoch": epoch,
                "mask": self.net.mask.clone(),
                "norms": self._norms(),
            }
        loss, train_accuracy = self._means()
        kept, weights = self.net.kept(), [shape.weights for shape in self.graph.layers]
        row = {
            "epoch": epoch,
            "iteration": self.iteration,
            "train_loss": loss,
            "train_accuracy": train_accuracy,
            "val_loss": val_loss,
            "val_accuracy": accuracy,
            "density": sum(kept) / sum(weights),
            **self._mask_cost(),
            "layer_density": [round(k / n, 6) for k, n in zip(kept, weights, strict=True)],
        }
        self.rows.append(row)
        run.append_metrics(self.folder, row)
        self.sums.zero_()
        self.seen = 0
        self.net.train()
        return row

    def _mask_cost(self) -> dict[str, float]:
        """Bits per free weight of the mask, given the initial scores and with one density per layer."""
        bits = np.array([cost.mask_bits(*pair) for pair in zip(self.net.masks(), self.bins, strict=True)])
        prior, iid = bits.sum(0) / max(len(self.net.mask), 1)
        return {"mask_bits_prior": float(prior), "mask_bits_iid": float(iid)}

    @torch.no_grad()
    def _logits(self, examples: Examples) -> Tensor:
        """float32 [N, classes] under the present mask."""
        weights = self.net.weights()
        parts = examples.pixels.split(EVALUATION_BATCH)
        return torch.cat([self.net(self.normalise(part), weights) for part in parts])

    def _norms(self) -> dict[str, Tensor]:
        return {name: t.clone() for name, t in self.net.state_dict().items() if name != "scores"}

    def save(self) -> None:
        """checkpoint.pt, written atomically."""
        state = {
            "iteration": self.iteration,
            "seconds": self.seconds,
            "sums": self.sums,
            "seen": self.seen,
            "rows": self.rows,
            "best": self.best,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        write_atomically(self.folder / "checkpoint.pt", lambda file: torch.save(state, file))
        self.saved = self.iteration

    def restore(self) -> None:
        """Takes up the checkpoint, if there is one. Raises SltError (`bad-checkpoint`) if unreadable."""
        path = self.folder / "checkpoint.pt"
        if path.exists():
            try:
                state = torch.load(path, map_location=self.device, weights_only=True)
                self.net.load_state_dict(state["net"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.iteration, self.seconds = state["iteration"], state["seconds"]
                self.sums, self.seen = state["sums"], state["seen"]
                self.rows, self.best = state["rows"], state["best"]
            except Exception as error:  # torch.load raises many kinds
                message = "is damaged: delete it, and the search starts again"
                raise SltError("bad-checkpoint", message, str(path)) from error
            self.saved = self.iteration
        run.write_metrics(self.folder, self.rows)

    def finish(self) -> Result:
        """Goes back to the best epoch, tests it, and writes predictions, the table's row and the result."""
        self.net.load_state_dict({**self.best["norms"], "scores": self.net.scores.detach()})
        self.net.use(self.best["mask"].to(self.device))
        self.net.eval()
        logits = self._logits(self.test)
        correct = float((logits.argmax(1) == self.test.labels).double().mean())
        found = Result(
            self._summary(correct), self.net.masks(), [layer.affine() for layer in self.net.each()]
        )
        result.write_arrays(self.folder / "predictions.npz", _predictions(logits, self.test.labels))
        run.add_to_table(self.folder, found.summary)
        result.save(self.folder, found)
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)
        return found

    def _summary(self, test_accuracy: float) -> Summary:
        kept = self.net.kept()
        counts = tuple(
            LayerCounts(shape.name, shape.weights, layer.pruned, layer.locked, layer.free, keeps)
            for shape, layer, keeps in zip(self.graph.layers, self.net.each(), kept, strict=True)
        )
        density = sum(kept) / self.graph.weights
        return Summary(
            network=self.graph.name,
            input=self.graph.input,
            classes=self.graph.classes,
            source=self.source,
            freezes=tuple(self.freezes),
            preprocessing=self.preprocessing,
            layers=counts,
            method=self.settings.method,
            sparsity=1 - density,
            density=density,
            val_accuracy=self.best["val_accuracy"],
            test_accuracy=test_accuracy,
            epochs=self.iterations / self.per_epoch,
            best_epoch=self.best["epoch"],
            iterations=self.iterations,
            seconds=self.seconds,
            data=self.settings.data,
            settings=msgspec.to_builtins(self.settings),
            provenance={"data": str(self.data["name"]), "run": self.folder.name, **_versions()},
        )


def _predictions(logits: Tensor, labels: Tensor) -> dict[str, NDArray[Any]]:
    """What a comparison with another engine needs.

    predictions, labels: int64 [N]; top2: the two largest logits, float32 [N, 2]; largest: max |logit|,
    float32 [N].
    """
    return {
        "predictions": logits.argmax(1).cpu().numpy(),
        "labels": labels.cpu().numpy(),
        "top2": logits.topk(2, dim=1).values.cpu().numpy(),
        "largest": logits.abs().amax(1).cpu().numpy(),
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
    }

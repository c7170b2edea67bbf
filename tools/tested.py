"""The images that a run was tested on, and what a network predicts of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slt_infer.data import Images, preprocess
from slt_infer.data import load as load_data
from slt_infer.errors import SltError
from slt_infer.runtime.plan import Plan
from slt_infer.search import result
from slt_infer.ticket import Preprocessing, Ticket
from slt_infer.tools import cli

BATCH = 100  # images in one call of the network


@dataclass(frozen=True)
class Tested:
    """images: the test split, or its first ones, with labels; trainer: int64 [N], what the search predicted
    of them.
    """

    images: Images
    trainer: np.ndarray
    rules: Preprocessing
    size: tuple[int, int, int]

    @classmethod
    def of(cls, folder: Path, ticket: Ticket, data_dir: Path | None, limit: int | None) -> Tested:
        """Of a run folder and its ticket. Raises SltError where the images or predictions cannot be had."""
        predictions = result.load_predictions(folder)
        data, rules, size = result.load_summary(folder).data, ticket.preprocessing, ticket.network.input
        images = load_data(data, "test", data_dir, size=size, resize=rules.resize, limit=limit)
        count = len(images)
        if images.labels is None or not np.array_equal(images.labels, predictions.labels[: limit or count]):
            message = f"{data} is not what the run was tested on: --data-dir names the folder of what was"
            raise SltError("other-images", message)
        return cls(images, predictions.classes[:count], rules, size)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, numbers: np.ndarray) -> np.ndarray:
        """float32 [n, C, H, W] of images by their numbers [n]."""
        return preprocess(self.images.pixels[numbers], self.rules, self.size)

    def predict(self, net: Plan, what: str) -> np.ndarray:
        """The class of each image, int64 [N]; what: for the progress bar."""
        classes = []
        with cli.progress() as bar:
            task = bar.add_task(what, total=len(self))
            for numbers in np.split(np.arange(len(self)), range(BATCH, len(self), BATCH)):
                classes.append(net(self.part(numbers)).argmax(axis=1))
                bar.update(task, advance=len(numbers))
        return np.concatenate(classes)

    def accuracy(self, classes: np.ndarray) -> float:
        return float((classes == self.images.labels).mean())

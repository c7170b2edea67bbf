"""Order, split, augmentation and preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slt_infer import data
from slt_infer.errors import DataError
from slt_infer.search import batches
from slt_infer.search.batches import CROP, Examples, Normaliser, crop_flip, examples, split, training_batches
from slt_infer.ticket import Preprocessing


def numbered(count: int, shape: tuple[int, ...] = (1, 1, 1)) -> Examples:
    """Images that can be told apart by their label."""
    return Examples(torch.zeros(count, *shape, dtype=torch.uint8), torch.arange(count))


def labels_of(count: int, **more) -> list[int]:
    asked = {"batch": 10, "epoch": 0, "first": 0, "data_seed": 5, "augment": False, **more}
    return [int(label) for _, labels in training_batches(numbered(count), **asked) for label in labels]


def test_split_parts_the_images() -> None:
    training, validation = split(103, 0.2, 1)
    assert len(validation) == 20
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(103))
    again = split(103, 0.2, 1)
    np.testing.assert_array_equal(validation, again[1])
    assert not np.array_equal(validation, split(103, 0.2, 2)[1])
    assert [len(part) for part in split(2, 0.01, 0)] == [1, 1]


def test_each_epoch_is_another_order_of_all_images() -> None:
    first, second = labels_of(50), labels_of(50, epoch=1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != sorted(second)
    assert labels_of(50) == first != labels_of(50, data_seed=6)


def test_an_epoch_can_be_taken_up_in_the_middle() -> None:
    assert labels_of(50, first=3) == labels_of(50)[30:]
    assert labels_of(57) == labels_of(57)[:50]
    assert sorted(labels_of(7)) == list(range(7))


def test_augmentation_does_not_change_the_order() -> None:
    plain, changed = (
        list(training_batches(numbered(40, (3, 8, 8)), 10, 2, 1, 0, augment)) for augment in (False, True)
    )
    assert [b[1].tolist() for b in plain] == [b[1].tolist() for b in changed]
    assert [b[0].shape for b in plain] == [b[0].shape for b in changed]


def test_crop_and_flip_against_slicing() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    pixels = random.integers(0, 256, (30, 3, 9, 7), dtype=np.uint8)
    shifts, flips = random.integers(0, 2 * CROP + 1, (30, 2)), random.integers(0, 2, 30).astype(bool)
    got = crop_flip(torch.from_numpy(pixels), shifts, flips).numpy()
    padded = np.pad(pixels, ((0, 0), (0, 0), (CROP, CROP), (CROP, CROP)))
    for i, (row, column) in enumerate(shifts):
        expected = padded[i, :, row : row + 9, column : column + 7]
        np.testing.assert_array_equal(got[i], expected[:, :, ::-1] if flips[i] else expected)


def test_preprocessing_is_to_the_bit_that_of_inference() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, 1)
    rules = Preprocessing((0.4914, 0.4822, 0.1), (0.247, 0.2435, 0.3))
    got = Normaliser(rules, "cpu")(torch.from_numpy(pixels)).numpy()
    np.testing.assert_array_equal(got, data.preprocess(pixels, rules, (3, 16, 16)))


def test_channel_statistics() -> None:
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (20, 2, 5, 5), dtype=np.uint8)
    pixels[:, 1] = 51
    mean, std = batches.channel_statistics(torch.from_numpy(pixels))
    values = pixels[:, 0] / 255
    assert mean == (round(float(values.mean()), 4), 0.2)
    assert std == (round(float(values.std()), 4), 1.0)


def test_images_without_labels_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        examples(np.zeros((2, 1, 2, 2), np.uint8), None, "folder")
    assert caught.value.code == "no-labels"

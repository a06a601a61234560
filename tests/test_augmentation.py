"""Crops and flips against a loop over images, orders against each other, and what has none against how it was."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data.arrays import SPLITS, ArrayBatches, Arrays
from experiments.data.augmentation import crop_and_flip
from experiments.data.batches import ALONE, Share
from experiments.data.transforms import PHOTOGRAPHS, PLAIN, Transforms


def one_by_one(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Every pixel by itself: that of the image so far away, or black outside of it."""
    found = np.zeros_like(images)
    height, width = images.shape[1:3]
    above, left = height // 8, width // 8
    for image, (down, right, flip), crop in zip(images, draws, found):
        top, start = int(down * (2 * above + 1)) - above, int(right * (2 * left + 1)) - left
        for row, column in itertools.product(range(height), range(width)):
            y, x = row + top, (width - 1 - column if flip < 0.5 else column) + start
            if 0 <= y < height and 0 <= x < width:
                crop[row, column] = image[y, x]
    return found


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 18), st.integers(1, 18), st.sampled_from([1, 3]))
def test_crops_and_flips_are_those_of_a_loop(seed, count, height, width, channels):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, height, width, channels), np.uint8)
    before, draws = images.copy(), random.random((count, 3))
    found = crop_and_flip(images, draws)
    assert found.dtype == np.uint8 and np.array_equal(found, one_by_one(images, draws))
    assert np.array_equal(images, before)  # they are the data set


def test_every_crop_and_both_flips_are_equally_likely():
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[0, 8, 7] = 1  # mirrored, it is in column 8
    draws = np.random.default_rng(0).random((20_000, 3))
    _, rows, columns, _ = np.nonzero(crop_and_flip(np.repeat(image, len(draws), axis=0), draws))
    assert np.array_equal(np.bincount(rows).nonzero()[0], range(6, 11))
    assert np.allclose(np.bincount(rows)[6:] / 20_000, 1 / 5, atol=0.015)
    # Five shifts of either column, half and half: the outer columns come from one of them alone.
    assert np.allclose(np.bincount(columns)[5:] / 20_000, np.array([1, 2, 2, 2, 2, 1]) / 10, atol=0.015)


def photographs(share: Share = ALONE, reshuffle: bool = True, seed: int = 3, transforms: Transforms = PHOTOGRAPHS):
    random = np.random.default_rng(0)
    images = random.integers(1, 256, (40, 16, 16, 3), np.uint8)
    labels = np.arange(40, dtype=np.int32)
    arrays = Arrays(dict.fromkeys(SPLITS, images), dict.fromkeys(SPLITS, labels), reshuffle, transforms)
    return ArrayBatches(arrays, seed, 8, share)


def stream(batches: ArrayBatches, steps: int = 12, start: int = 0) -> list[dict]:
    return list(itertools.islice(batches.train(start, 5), steps))


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_the_crops_of_a_step_do_not_depend_on_the_start():
    whole = stream(photographs())
    for start in (1, 4, 5, 11):
        assert equal(stream(photographs(), 1, start)[0], whole[start])
    plain = photographs().arrays.images['train']
    assert not any(np.array_equal(batch['image'], plain[batch['label']]) for batch in whole)
    (first, later), label = (whole[0], whole[5]), whole[0]['label'][0]
    again = next(image for batch in whole[5:10] for image, its in zip(*batch.values()) if its == label)
    assert not np.array_equal(first['image'][0], again) and not equal(first, later)


@pytest.mark.parametrize('count', [2, 4])
@pytest.mark.parametrize('order', [0, 1])
def test_the_shares_of_processes_are_the_whole_batch(count, order):
    whole = dataclasses.replace(photographs(), order=order)
    parts = [stream(dataclasses.replace(whole, share=Share(index, count))) for index in range(count)]
    for expected, *found in zip(stream(whole), *parts):
        assert equal(expected, {key: np.concatenate([part[key] for part in found]) for key in expected})


def test_validation_is_not_augmented():
    batches = photographs()
    shown = np.concatenate([batch['image'] for batch in batches.validation()])
    assert np.array_equal(shown, batches.arrays.images['validation'])
    assert all(equal(*pair) for pair in zip(batches.validation(), batches.reshuffled().validation()))


@pytest.mark.parametrize('reshuffle', [True, False])
def test_reshuffled_is_another_order_of_the_same_data(reshuffle):
    batches = photographs(reshuffle=reshuffle)
    other = batches.reshuffled()
    assert other.arrays is batches.arrays and other.steps_in_data == batches.steps_in_data
    orders = {}
    for name, one in (('own', batches), ('other', other)):
        labels = [batch['label'].tolist() for batch in stream(one, 20)]
        for epoch in range(4):
            orders[name, epoch] = list(itertools.chain(*labels[5 * epoch : 5 * epoch + 5]))
            assert sorted(orders[name, epoch]) == list(range(40))
    assert all(orders['own', one] != orders['other', two] for one, two in itertools.product(range(4), repeat=2))
    assert len({tuple(orders['other', epoch]) for epoch in range(4)}) == (4 if reshuffle else 1)
    assert all(equal(*pair) for pair in zip(stream(other), stream(photographs(reshuffle=reshuffle).reshuffled())))


def test_reshuffled_has_other_crops_too():
    def crops(batches: ArrayBatches) -> np.ndarray:
        epoch = stream(batches, 5)
        order = np.argsort(np.concatenate([batch['label'] for batch in epoch]))
        return np.concatenate([batch['image'] for batch in epoch])[order]

    one, other = crops(photographs()), crops(photographs().reshuffled())
    assert sum(map(np.array_equal, one, other)) < 10  # of 40; a crop is one of 50


def test_no_seed_of_a_config_has_the_other_order():
    """As numbers of more than 32 bits would: numpy takes (seed + 2**32, 0) and (seed, 1) for the same."""
    other = [batch['label'].tolist() for batch in stream(photographs(seed=0).reshuffled(), 5)]
    for seed in (0, 1, 2, 2**32 - 1):
        labels = [batch['label'].tolist() for batch in stream(photographs(seed=seed), 30)]
        assert all(labels[start : start + 5] != other for start in range(0, 30, 5))


def test_plain_images_are_as_they_were():
    """The order of (seed, epoch), uint8 divided by 255, nothing else."""
    batches = photographs(transforms=PLAIN)
    images = batches.arrays.images['train']
    for step, batch in enumerate(stream(batches)):
        order = np.random.default_rng((3, step // 5)).permutation(40)[step % 5 * 8 : step % 5 * 8 + 8]
        assert np.array_equal(batch['label'], order) and batch['image'].dtype == np.float32
        assert np.array_equal(batch['image'], images[order].astype(np.float32) / np.float32(255))

"""The offline stand-in: always the same, in CIFAR-10's layout, neither noise nor trivial."""

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from cifar_lightning.data.synthetic import CLASS_NAMES, TEST_SIZE, TRAIN_SIZE, synthetic_cifar10

Split = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def train() -> Split:
    return synthetic_cifar10(train=True)


@pytest.fixture(scope="module")
def test() -> Split:
    return synthetic_cifar10(train=False)


def test_layout_and_balance(train: Split, test: Split) -> None:
    for (images, labels), size in ((train, TRAIN_SIZE), (test, TEST_SIZE)):
        assert images.shape == (size, 32, 32, 3)
        assert images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [size // 10] * len(CLASS_NAMES)


def test_the_same_bytes_at_every_call_and_other_ones_to_test_on(test: Split) -> None:
    again, labels = synthetic_cifar10(train=False)
    assert hashlib.md5(again.tobytes()).digest() == hashlib.md5(test[0].tobytes()).digest()
    assert np.array_equal(labels, test[1])
    assert not np.array_equal(synthetic_cifar10(train=True)[0][:TEST_SIZE], test[0])


def test_pixels_alone_do_not_give_the_class_away(train: Split, test: Split) -> None:
    # Least squares on the grey picture, the strongest linear classifier there is in closed form.
    def grey(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        flat = images.mean(axis=3).reshape(len(images), -1) / 255
        return np.hstack([flat - flat.mean(axis=1, keepdims=True), np.ones((len(flat), 1))])

    targets = np.eye(10)[train[1]]
    features = grey(train[0])
    weights = np.linalg.solve(features.T @ features + 10 * np.eye(features.shape[1]), features.T @ targets)
    accuracy = (np.argmax(grey(test[0]) @ weights, axis=1) == test[1]).mean()
    assert accuracy < 0.3


def test_shapes_are_there_to_be_seen(test: Split) -> None:
    # The shape's distance from its ground, against the sum of all the noise: found by the spread over the picture.
    images, labels = test
    spread = images.astype(float).std(axis=(1, 2)).mean(axis=1)
    assert np.median(spread) > 25  # the noise alone has 20
    assert len({hashlib.md5(image.tobytes()).digest() for image in images}) == len(labels)

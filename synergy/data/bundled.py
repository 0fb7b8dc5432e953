"""The digits that ship with scikit-learn: real images, no download, no cache."""

from __future__ import annotations

import numpy as np

from synergy.data.cache import Decoded

DIGITS_CLASSES = 10
DIGITS_TRAIN_SAMPLES = 1_437
DIGITS_TEST_SAMPLES = 360


def digits() -> Decoded:
    """1,797 images `uint8 [N, 1, 8, 8]`; every fifth one, from the first, is in the test set."""
    from sklearn.datasets import load_digits  # here, because it takes a second that no other data set should pay

    bunch = load_digits()
    levels = bunch.images  # 0 … 16, as floats
    images = np.rint(levels * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    held_out = np.arange(len(images)) % 5 == 0
    return Decoded(images[~held_out], labels[~held_out], images[held_out], labels[held_out])

"""The digits that ship with scikit-learn: real images that need no download and no cache."""

from __future__ import annotations

import numpy as np

from synergy.data.cache import Decoded

DIGITS_CLASSES = 10
DIGITS_TRAIN_SAMPLES = 1_437
DIGITS_TEST_SAMPLES = 360


def digits() -> Decoded:
    """1,797 images `uint8 [N, 1, 8, 8]`. Every fifth one, from the first, belongs to the test set.

    Examples:
        >>> digits().train.shape, digits().test.shape
        ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    from sklearn.datasets import load_digits  # imported here: it takes a second, which only these digits need

    bunch = load_digits()
    levels = bunch.images  # 0 … 16, as floats
    images = np.rint(levels * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    held_out = np.arange(len(images)) % 5 == 0
    return Decoded(images[~held_out], labels[~held_out], images[held_out], labels[held_out])

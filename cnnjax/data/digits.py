"""scikit-learn's 1,797 handwritten digits, 8x8 grey (Alpaydin & Kaynak 1998, UCI): no download."""

from typing import Any

import numpy as np

from cnnjax.data.dataset import Dataset, Examples


def load_digits() -> Dataset:
    """Three quarters for training, one for testing, stratified by class; always the same split."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    bunch: Any = load()
    images = np.asarray(bunch.images, np.uint8)[..., None]
    labels = np.asarray(bunch.target, np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), train_size=0.75, random_state=0, stratify=labels
    )
    return Dataset(
        name="digits",
        train=Examples.of(images=images[train], labels=labels[train]),
        test=Examples.of(images=images[test], labels=labels[test]),
        label_names=tuple(str(digit) for digit in range(10)),
        max_value=16,
        augmentation="none",  # a flip or a shift makes another digit
        source="scikit-learn's bundled copy of Alpaydin & Kaynak 1998 (UCI), 8x8 grey",
    )

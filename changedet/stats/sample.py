"""A bounded uniform sample of a stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class UniformSample:
    """Keeps at most `size` of the samples it is shown, each as likely as any other; all, where there are no more.

    Every sample draws a random key and those of the smallest keys are kept ("bottom-k", Cohen and Kaplan, PODC 2007).
    Keys depend on the seed and the block's number alone, so the sample does not depend on when a block is shown.

    Args:
        size: how many to keep.
        seed: of the keys.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.seen = 0
        self._size, self._seed = size, seed
        self._limit = float("inf")
        self._kept: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]]] = []

    def add(self, block: int, samples: NDArray[np.float32]) -> None:
        """Show the samples (V, N) of the block of that number."""
        keys = np.random.default_rng([self._seed, block]).random(size=(samples.shape[1],))
        self.seen += samples.shape[1]
        low = np.flatnonzero(keys < self._limit)
        order = np.full(len(low), block, dtype=np.int64)
        self._kept.append((keys[low], order, samples[:, low].astype(np.float32, copy=False)))
        if sum(len(keys) for keys, _, _ in self._kept) > 2 * self._size:
            self._kept = [self._lowest()]

    def values(self) -> NDArray[np.float32]:
        """Return the sample, float32 (V, N), in the order of its keys."""
        return self._lowest()[2]

    def _lowest(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]]:
        keys, blocks = (np.concatenate([kept[part] for kept in self._kept]) for part in (0, 1))
        samples = np.concatenate([kept[2] for kept in self._kept], axis=1)
        lowest = np.lexsort((blocks, keys))[: self._size]
        if len(lowest) == self._size < len(keys):
            self._limit = float(keys[lowest[-1]])
        return keys[lowest], blocks[lowest], samples[:, lowest]

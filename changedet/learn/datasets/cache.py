"""Blocks of scenes that were read from disk, the latest within a budget of memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Before, after (float16 (bands, H, W)), truth (uint8 (H, W): 0 unchanged, 1..K the kind), valid (bool (H, W)).
Pixels: TypeAlias = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]], NDArray[np.uint8], NDArray[np.bool_]]


class BlockCache:
    """Keeps what was used last.

    Args:
        max_bytes: of all blocks together.

    Attributes:
        held_bytes: what they take now.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._blocks: OrderedDict[Hashable, Pixels] = OrderedDict()
        self.held_bytes = 0

    def get(self, key: Hashable) -> Pixels | None:
        """Return a block, None where it is not kept."""
        found = self._blocks.get(key)
        if found is not None:
            self._blocks.move_to_end(key)
        return found

    def put(self, key: Hashable, block: Pixels) -> None:
        """Keep a block, in place of those that were not used for longest."""
        self._blocks[key] = block
        self.held_bytes += _bytes(block)
        while self.held_bytes > self._max_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.held_bytes -= _bytes(oldest)


def _bytes(block: Pixels) -> int:
    return sum(part.nbytes for part in block)

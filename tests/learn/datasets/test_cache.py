import numpy as np

from changedet.learn.datasets.cache import BlockCache, Pixels


def _block(side: int) -> Pixels:
    image = np.zeros((1, side, side), np.float16)
    return image, image, np.zeros((side, side), np.uint8), np.zeros((side, side), np.bool_)


def test_the_latest_blocks_are_kept_within_the_budget() -> None:
    cache = BlockCache(3 * 600)  # a block of 10 x 10 px has 600 bytes
    blocks = [_block(10) for _ in range(4)]
    for name, block in zip("abc", blocks, strict=False):
        cache.put(name, block)
    assert cache.held_bytes == 1800
    assert cache.get("a") is blocks[0]
    cache.put("d", blocks[3])
    assert cache.get("b") is None, "not used for longest"
    assert all(cache.get(name) is not None for name in "acd")
    assert cache.held_bytes == 1800


def test_a_block_larger_than_the_budget_is_not_kept() -> None:
    cache = BlockCache(100)
    cache.put("a", _block(10))
    assert cache.get("a") is None
    assert cache.held_bytes == 0

import numpy as np

from changedet.stats.sample import UniformSample


def _blocks() -> list[np.ndarray]:
    values = np.arange(20_000, dtype=np.float32).reshape(1, -1)
    return np.split(values, [100, 100, 7000, 12_345], axis=1)


def _sampled(size: int, order: list[int], seed: int = 0) -> np.ndarray:
    sample, blocks = UniformSample(size, seed), _blocks()
    for number in order:
        sample.add(number, blocks[number])
    assert sample.seen == 20_000
    return sample.values()


def test_few_samples_are_all_kept() -> None:
    np.testing.assert_array_equal(np.sort(_sampled(20_000, [0, 1, 2, 3, 4])[0]), np.arange(20_000))


def test_the_sample_is_the_same_in_whatever_order_blocks_come() -> None:
    first = _sampled(500, [0, 1, 2, 3, 4])
    assert first.shape == (1, 500)
    np.testing.assert_array_equal(first, _sampled(500, [3, 0, 4, 2, 1]))
    assert not np.array_equal(first, _sampled(500, [0, 1, 2, 3, 4], seed=1))


def test_every_sample_is_as_likely_as_any_other() -> None:
    mean = np.mean([_sampled(500, [0, 1, 2, 3, 4], seed).mean() for seed in range(40)])
    # The mean of 40 * 500 draws from 0..19,999 has a standard deviation of 41.
    assert abs(mean - 9999.5) < 150


def test_variables_stay_together() -> None:
    sample = UniformSample(50)
    for number in range(30):
        values = np.random.default_rng(number).random((1, 40), dtype=np.float32)
        sample.add(number, np.concatenate([values, 2 * values]))
    np.testing.assert_array_equal(sample.values()[1], 2 * sample.values()[0])

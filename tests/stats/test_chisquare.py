import numpy as np
import pytest
from scipy import stats

from changedet.errors import ConfigError
from changedet.stats.chisquare import quantile, survival


@pytest.mark.parametrize("freedom", [1, 3, 13])
def test_it_is_scipys_distribution(freedom: int) -> None:
    values = np.array([0.0, 0.5, 3.0, 40.0, 300.0])
    np.testing.assert_allclose(survival(values, freedom), stats.chi2.sf(values, freedom), rtol=1e-10)
    assert quantile(0.99, freedom) == pytest.approx(stats.chi2.ppf(0.99, freedom), rel=1e-10)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_outside_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        quantile(share, 3)

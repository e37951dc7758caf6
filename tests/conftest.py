import pytest
from hypothesis import settings

# Seeded, like every other test; without a deadline, because a busy machine is no failure.
settings.register_profile("changedet", derandomize=True, deadline=None)
settings.load_profile("changedet")


def pytest_configure(config: pytest.Config) -> None:
    """Leave slow tests out unless `-m` says otherwise."""
    config.option.markexpr = config.option.markexpr or "not slow"

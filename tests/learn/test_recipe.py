from collections.abc import Callable
from pathlib import Path

import pytest

from changedet.config import TrainConfig
from changedet.errors import ConfigError
from changedet.learn.checkpoint import CHECKPOINT
from changedet.learn.recipe import RECIPE, keep_recipe

MakeConfig = Callable[..., TrainConfig]


def _keep(folder: Path, config: TrainConfig, held_out: tuple[str, ...] = ("a",)) -> None:
    keep_recipe(folder, config, config.candidates["diff"], held_out=held_out)


def test_a_training_goes_on_with_its_own_recipe_wherever_it_is_computed(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    _keep(tmp_path / "one", make_config())
    _keep(tmp_path / "one", make_config(data="moved", threads=4, device="cpu", checkpoint_every=9, licence="MIT"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, r"begun with learning_rate 0\.003, which is 0\.5 now"),
        ({"augment": {"crop_px": 16}}, r"augment\.crop_px 32, which is 16 now"),
        ({"loss": {"dice": 1}}, r"loss\.bce 1\.0, which is 0\.0 now"),
        ({"urban_weight": 2}, r"urban_weight 0\.0, which is 2\.0 now"),
        ({"early_stop": {"scenes": ["a", "b"]}}, "early_stop"),
        ({"candidates": {"diff": {"architecture": "fc_ef"}}}, "architecture fc_siam_diff, which is fc_ef"),
        ({"candidates": {"diff": {"architecture": "fc_siam_diff"}}}, r"arguments \[\['width', 4\]\], which is \[\]"),
    ],
)
def test_refuses_to_go_on_with_another(
    tmp_path: Path, make_config: MakeConfig, changes: dict[str, object], message: str
) -> None:
    _keep(tmp_path, make_config())
    with pytest.raises(ConfigError, match=message):
        _keep(tmp_path, make_config(**changes))


def test_refuses_other_folds_in_a_folder_of_the_same_number(tmp_path: Path, make_config: MakeConfig) -> None:
    _keep(tmp_path, make_config())
    with pytest.raises(ConfigError, match=r"held_out \['a'\], which is \['b'\] now"):
        _keep(tmp_path, make_config(), ("b",))


def test_a_training_of_an_earlier_version_goes_on(tmp_path: Path, make_config: MakeConfig) -> None:
    (tmp_path / CHECKPOINT).touch()
    _keep(tmp_path, make_config())
    assert not (tmp_path / RECIPE).exists()

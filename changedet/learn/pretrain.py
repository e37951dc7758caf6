"""Learning without a label: from changes that are made, from what a statistic of each pair is sure of, and from places.

The two dates of a place, with all their differences of season, sun, haze and registration, are what nothing changed
looks like. What change looks like comes from `changedet.learn.made` and `changedet.learn.pseudo`; what a place looks
like, whatever the date, from `changedet.network.places`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from scipy.special import logit

from changedet.config import PretrainConfig
from changedet.errors import ConfigError
from changedet.grid.quantise import below_one
from changedet.learn import parallel
from changedet.learn.card import make_card
from changedet.learn.counts import ProbabilityHistogram
from changedet.learn.datasets import TrainingScene
from changedet.learn.draw import draw_training
from changedet.learn.kinds import Kinds
from changedet.learn.log import read_log
from changedet.learn.made import Maker, lights_of
from changedet.learn.packaging import measured_once
from changedet.learn.predict import chip_of
from changedet.learn.pseudo import pseudo_labelled
from changedet.learn.rate import threshold_of_rate
from changedet.learn.recipe import keep_recipe
from changedet.learn.scene_term import SceneTerm, fit_scene_term, scene_moments
from changedet.learn.task import progress_to, scenes_of
from changedet.learn.train import Unlabelled, built_with, train
from changedet.network.base import ChangeNetwork
from changedet.network.card import Calibration
from changedet.network.package import save_model

_PROTOCOL = "threshold without labels: it marks as many pixels of the pairs learned from as their statistic does"
# Of the grade, and the share of each of the two witnesses in it.
_MIDDLE: Final = 0.5
_SLOPE: Final = 0.5


def pretrain_models(config: PretrainConfig, *, command: str, report: Callable[[str], None]) -> list[Path]:
    """Learn each model of a recipe from pairs without labels, and save it; go on where it was interrupted.

    Args:
        config: the recipe.
        command: to be stated on the cards.
        report: hears a line a model.

    Returns:
        The model files; none in processes of torchrun but the first.

    Raises:
        ConfigError: there is nothing to map, nothing to learn from, or a training that was begun with another recipe.
    """
    if not (config.made or config.pseudo):
        raise ConfigError("places alone teach an encoder and no map", expected="made or pseudo too")
    with parallel.joined():
        paths = [_pretrain(model, config, command, report) for model in config.models]
        return paths if parallel.rank() == 0 else []


def _pretrain(model: str, config: PretrainConfig, command: str, report: Callable[[str], None]) -> Path:
    bands, path = config.models[model].bands, config.out / f"{model}.safetensors"
    scenes = learned_from(config, bands)
    if parallel.rank() == 0:
        # The statistic joins what was learned; its weight takes no part in learning.
        alone = config.model_copy(update={"urban_weight": 0.0, "neighbour_weight": 0.0})
        keep_recipe(config.out / model, alone, config.network, bands=bands)
    network = learn(model, config, scenes)
    if parallel.rank() > 0:
        return path
    chip = chip_of(network, len(bands), config.augment.crop_px)
    threshold, share = threshold_of_rate(
        network, terms_of(scenes, bands, config.urban_weight, config.neighbour_weight), chip
    )
    figures = {"protocol": _PROTOCOL, "threshold": _MIDDLE, "share_marked": round(share, 5)}
    folder, arguments = config.out / model, built_with(config.network, bands, Kinds())
    measured = measured_once(folder, network, arguments, scenes, config.augment.crop_px)
    card = make_card(model, config.network, network, config, figures, centred(threshold), measured, command)
    places = tuple(place for place in card.places if place.name in scenes)
    save_model(path, network, card.model_copy(update={"places": places}))
    draw_training(path.with_suffix(".png"), read_log(folder), ProbabilityHistogram.empty(), threshold)
    report(f"{path}: learned from {len(scenes)} pairs without labels, marks {share:.2%} of them")
    return path


def centred(threshold: float) -> Calibration:
    """Return what makes grades of a network's probabilities once they are joined, without a label: 0.5 at a threshold.

    The logits are halved, so that joining takes the mean of the network's and the statistic's, where their sum would be
    that of independent witnesses: this network has learned from the statistic.

    Args:
        threshold: of the joined, not calibrated probability.
    """
    offset = -_SLOPE * float(logit(below_one(threshold)))
    return Calibration(method="platt", slope=_SLOPE, offset=offset, data="no labels: a grade, 0.5 at the threshold")


def learned_from(config: PretrainConfig, bands: tuple[str, ...]) -> dict[str, TrainingScene]:
    """Return the scenes to learn from, without their labels.

    Raises:
        ConfigError: `leave_out` names one that is not there, or leaves none.
    """
    scenes = scenes_of(config, bands, labelled=False)
    strange = sorted(set(config.leave_out) - set(scenes))
    if strange:
        raise ConfigError(f"leave_out names {strange[0]}", expected=f"some of {', '.join(scenes)}")
    left = {name: scene for name, scene in scenes.items() if name not in config.leave_out}
    if not left:
        raise ConfigError("leave_out leaves no scene to learn from", expected="one at least")
    return left


def terms_of(
    scenes: Mapping[str, TrainingScene], bands: tuple[str, ...], weight: float, neighbour_weight: float = 0.0
) -> list[SceneTerm]:
    """Return the statistic of each scene, with the weights of `SceneTerm`."""
    return [fit_scene_term(scene, bands, weight, neighbour_weight) for scene in scenes.values()]


def learn(model: str, config: PretrainConfig, scenes: Mapping[str, TrainingScene]) -> ChangeNetwork:
    """Train (or finish, or only load) a network without labels, with weights rounded to float16 as they are shipped.

    Args:
        model: key in `config.models`.
        config: the recipe.
        scenes: to learn from, whose truth, if they have any, is not looked at.
    """
    bands, folder = config.models[model].bands, config.out / model
    targets: list[TrainingScene] = list(scenes.values())
    share = 0.0
    if config.pseudo:
        terms = terms_of(scenes, bands, config.urban_weight)
        targets, share = [pseudo_labelled(term, config.pseudo) for term in terms], config.changed_share
    unlabelled = Unlabelled(_maker(config, targets, bands), config.places, bool(config.made or config.pseudo))
    changed: dict[str, Any] = {"changed_share": share}
    recipe = config.model_copy(update=changed)
    network = train(targets, bands, config.network, recipe, folder, progress_to(folder), unlabelled=unlabelled)
    return network.half().float()


def _maker(config: PretrainConfig, scenes: list[TrainingScene], bands: tuple[str, ...]) -> Maker | None:
    if config.made is None:
        return None
    moments = (scene_moments(scene) for scene in scenes)
    lights = [lights_of(each.mean, each.deviation) for each in moments]
    return Maker(scenes, lights, bands, config.made, config.seed)

"""What a training was begun with, kept in its folder: going on by another recipe would give a model of neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from changedet.config import Candidate, Recipe
from changedet.errors import ConfigError
from changedet.learn.checkpoint import CHECKPOINT
from changedet.learn.task import write_json

RECIPE: Final = "recipe.json"
# Where and how fast it is computed, what only the card says, and what is told apart in `own`.
_FREE: Final[dict[str, Any]] = {
    "data": {"root"},
    **dict.fromkeys(("out", "models", "candidates", "folds", "network", "loss", "calibration"), True),
    **dict.fromkeys(("device", "threads", "scene_memory", "checkpoint_every", "deterministic", "tensorboard"), True),
    **dict.fromkeys(("resolution_m", "licence", "licence_note", "commercial_use", "description"), True),
}


def keep_recipe(folder: Path, config: Recipe, candidate: Candidate, **own: Any) -> None:
    """Write what a training begins with; where one was begun, refuse to go on with another.

    One that an earlier version began, which did not write it, is gone on with.

    Args:
        folder: of the training.
        config: the recipe.
        candidate: what is trained.
        own: what else its weights and figures depend on.

    Raises:
        ConfigError: it was begun with another recipe.
    """
    said = config.model_dump(mode="json", exclude=_FREE)
    # A list, as an argument that is left out is another one.
    said |= {"architecture": candidate.architecture, "arguments": sorted(candidate.arguments.items())}
    said |= {"loss": (candidate.loss or config.loss).model_dump(mode="json")}
    now = json.loads(json.dumps({**said, **own}))
    path = folder / RECIPE
    if path.exists():
        _refuse_another(folder, json.loads(path.read_text()), now)
    elif not (folder / CHECKPOINT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, now)


def _refuse_another(folder: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    for key, old, new in _differing(begun, now):
        raise ConfigError(
            f"the training in {folder} was begun with {key} {old}, which is {new} now",
            expected="the recipe that it was begun with",
            remedy=f"another out, or remove {folder} to train it again",
        )


def _differing(begun: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted keys with both values; what only one of two blocks says came with another version."""
    if isinstance(begun, dict) and isinstance(now, dict):
        for name in (name for name in begun if name in now):
            yield from _differing(begun[name], now[name], f"{key}.{name}" if key else name)
    elif begun != now:
        yield key, begun, now

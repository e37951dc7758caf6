"""A pipeline file: one block of options, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from changedet.config.base import Config, key_of, said_of
from changedet.config.batch import BatchStep
from changedet.config.data import DatasetConfig
from changedet.config.learn import TrainConfig
from changedet.config.pretrain import PretrainConfig
from changedet.config.run import RunStep
from changedet.errors import ConfigError, NotFoundError


class Pipeline(Config):
    """A pipeline file: one of its blocks.

    Attributes:
        run: for `changedet run`.
        batch: for `changedet batch plan` and `changedet batch run`.
        train: for `changedet train`.
        pretrain: for `changedet pretrain`.
        dataset: for `changedet evaluate` and `changedet calibrate`.
    """

    run: RunStep | None = None
    batch: BatchStep | None = None
    train: TrainConfig | None = None
    pretrain: PretrainConfig | None = None
    dataset: DatasetConfig | None = None

    @model_validator(mode="after")
    def _one_block(self) -> Pipeline:
        if sum(block is not None for block in (self.run, self.batch, self.train, self.pretrain, self.dataset)) != 1:
            raise ValueError("expected one block: run, batch, train, pretrain or dataset")
        return self


def load_pipeline(path: str | Path, changes: tuple[str, ...] = ()) -> Pipeline:
    """Read a pipeline file.

    Args:
        path: YAML.
        changes: `key=value` with dots for nesting, e.g. `run.threshold=0.4`; values are YAML.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: not YAML, a key that is unknown or there twice, or a wrong type; the message names the line.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFoundError(f"no pipeline file {file}")
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file} holds no block", expected="run:, batch:, train:, pretrain: or dataset: at the top level"
        )
    _refuse_twice(file, root)
    for change in changes:
        _set(content, change)
    try:
        return Pipeline.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n  ".join(_located(file, root, problem) for problem in error.errors())) from error


def _refuse_twice(file: Path, root: yaml.Node | None) -> None:
    """Refuse a key that a block has twice, of which YAML would take the last."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # by an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [value for _, value in node.value]
            first: dict[object, int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if key.value in first:
                    raise ConfigError(
                        f"{file}, line {line}: {key.value} is in line {first[key.value]} already", expected="it once"
                    )
                first[key.value] = line


def _set(content: dict[str, Any], change: str) -> None:
    key, separator, value = change.partition("=")
    *path, last = key.split(".")
    for part in path:
        inner = content.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {change}: {part} is not a block")
        content = inner
    if not separator:
        raise ConfigError(f"--set {change}", expected="key=value, e.g. --set run.threshold=0.4")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: the value is not YAML") from error


def _located(file: Path, root: yaml.Node | None, problem: Any) -> str:
    return f"{file}, line {_line(root, problem['loc'])}: {key_of(problem) or 'file'}: {said_of(problem)}"


def _line(node: yaml.Node | None, path: tuple[str | int, ...]) -> int:
    """Return the 1-based line of the deepest part of `path` that the file has."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        children: dict[object, tuple[yaml.Node, yaml.Node]] = {}
        if isinstance(node, yaml.MappingNode):
            children = {key.value: (key, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = {index: (value, value) for index, value in enumerate(node.value)}
        if part not in children:
            break
        key, node = children[part]
        line = key.start_mark.line + 1
    return line

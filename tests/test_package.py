"""What holds the project together: dependencies, import rules, and documentation that runs."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import changedet
from changedet.cli import cli
from tests.pairs import ROOT

# What conda-forge calls by another name than PyPI.
CONDA_NAMES = {
    "Jinja2": "jinja2",
    "torch": "pytorch",
    "exactextract": "python-exactextract",
    "PyYAML": "pyyaml",
    "matplotlib": "matplotlib-base",  # without Qt
}
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def test_the_conda_environment_has_the_same_dependencies_and_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # conda-forge has OpenVINO for all its platforms, and its files know no markers.
    bounds = [dependency.split(";")[0] for dependency in project["dependencies"]]
    expected = {re.sub(r"^[\w-]+", lambda name: CONDA_NAMES.get(name[0], name[0]), d) for d in bounds}
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert set(conda) == {*expected, "python" + project["requires-python"], "pip"}


def test_imports_go_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_package_offers_is_there() -> None:
    assert all(callable(getattr(changedet, name)) for name in changedet.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="has no attribute 'detect_all'"):
        _ = changedet.detect_all


@dataclass(frozen=True)
class Block:
    """A block of code in a document."""

    language: str
    code: str
    line: int


def _blocks(document: Path) -> Iterator[Block]:
    """Yield the blocks of code that are meant to run: all but those right after `<!-- not run: reason -->`."""
    text = document.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()]
        if not re.search(r"<!-- not run: [^>]+-->\s*\Z", before):
            yield Block(match[1], match[2], before.count("\n") + 1)


def _commands(code: str) -> Iterator[list[str]]:
    """Yield the arguments of the `changedet` commands in a block for the shell; others, such as pip, are not ours."""
    for line in code.replace("\\\n", " ").splitlines():
        for command in line.removeprefix("$ ").split(" && "):
            words = shlex.split(command, comments=True)
            if words[:1] == ["changedet"]:
                yield words[1:]


def _run(block: Block, names: dict[str, object], where: str) -> None:
    if block.language == "python":
        exec(compile("\n" * block.line + block.code, where, "exec"), names)  # noqa: S102  # our own documents
    elif block.language in ("console", "bash", "sh", "shell"):
        for arguments in _commands(block.code):
            result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
            assert result.exit_code == 0, (
                f"{where}, line {block.line}: changedet {shlex.join(arguments)}\n{result.output}"
            )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_code_in_a_document_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("sample_data", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in _blocks(document):
        _run(block, names, document.name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_what_a_document_links_to_is_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []

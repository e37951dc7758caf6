"""The command line in tests: calls of it, and what it leaves behind."""

from pathlib import Path

from click.testing import CliRunner, Result

from changedet.cli import cli

# A process of its own runs the command by this, wherever it is installed.
MAIN = "from changedet.cli import main; main()"
RESULTS = {"probability.tif", "mask.tif", "changes.gpkg", "report.html", "run.json"}


def call(*arguments: object) -> Result:
    """Call `changedet` in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder; none where there is no folder."""
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def assert_refused(result: Result, out: Path, code: int, message: str) -> None:
    """Check the exit code, that there is one clear message and no traceback, and that nothing is left in `out`."""
    assert (result.exit_code, result.stderr.count("error:")) == (code, 1), result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not out.exists()

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from changedet.errors import OutputError, OutputExistsError, SceneError
from changedet.write import staging
from changedet.write.staging import Staging, atomic_path


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def fill(stage, *files):
    for name in files:
        stage.path(name).write_text(f"new {name}")
        stage.publish(name)


def test_results_appear_on_leaving_and_temporary_files_never(tmp_path):
    out = tmp_path / "deep" / "out"
    with Staging(out) as stage:
        fill(stage, "run.json", "mask.tif")
        stage.path("temporary.tif").write_text("large")
        assert [name for name in names(out) if name[0] != "."] == []
        assert stage.publish("mask.tif") == out / "mask.tif"

    assert names(out) == ["mask.tif", "run.json"]
    assert (out / "mask.tif").read_text() == "new mask.tif"


def crash(out, error, **options):
    """Fail when the results are made and ready to be renamed."""
    with Staging(out, **options) as stage:
        fill(stage, "mask.tif", "run.json")
        raise error


@pytest.mark.parametrize("error", [SceneError("damaged"), ValueError("a bug"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing_behind(tmp_path, error):
    out = tmp_path / "deep" / "out"
    with pytest.raises(type(error)):
        crash(out, error)

    assert names(tmp_path) == []


def test_an_exception_leaves_a_folder_that_was_there(tmp_path):
    (tmp_path / ".hidden").touch()
    with pytest.raises(ValueError, match="a bug"), Staging(tmp_path):
        raise ValueError("a bug")

    assert names(tmp_path) == [".hidden"]


def test_refuses_a_folder_with_anything_visible_in_it(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputExistsError, match=r"notes\.txt among them"), Staging(tmp_path):
        pass

    assert names(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_refuses_a_file_in_place_of_the_folder(tmp_path, overwrite):
    (tmp_path / "out").touch()
    with pytest.raises(OutputExistsError, match="is a file"), Staging(tmp_path / "out", overwrite=overwrite):
        pass


def test_overwrite_replaces_a_run_and_leaves_what_is_not_of_one(tmp_path):
    old = ["mask.tif", "mask.tif.aux.xml", "changes.gpkg-wal", "statistic.tif", "run.json", "notes.txt"]
    for name in old:
        (tmp_path / name).write_text("old")

    with Staging(tmp_path, overwrite=True) as stage:
        fill(stage, "mask.tif", "changes.gpkg", "run.json")
        assert (tmp_path / "run.json").read_text() == "old"

    assert names(tmp_path) == ["changes.gpkg", "mask.tif", "notes.txt", "run.json"]
    assert (tmp_path / "run.json").read_text() == "new run.json"


def test_a_failed_overwrite_keeps_the_old_run(tmp_path):
    (tmp_path / "run.json").write_text("old")
    with pytest.raises(ValueError, match="a bug"):
        crash(tmp_path, ValueError("a bug"), overwrite=True)

    assert names(tmp_path) == ["run.json"]
    assert (tmp_path / "run.json").read_text() == "old"


@pytest.mark.parametrize("overwrite", [False, True])
def test_run_json_is_the_last_to_come_and_the_first_to_go(tmp_path, monkeypatch, overwrite):
    out = tmp_path / "out"
    if overwrite:
        out.mkdir()
        (out / "run.json").write_text("old")
    seen = []
    replace = Path.replace

    def watched(self, target):
        seen.append((Path(target).name, (out / "run.json").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with Staging(out, overwrite=overwrite) as stage:
        fill(stage, "run.json", "changes.gpkg", "mask.tif")

    assert seen == [("changes.gpkg", False), ("mask.tif", False), ("run.json", False)]


def test_a_crash_between_two_renames_leaves_nothing_behind(tmp_path):
    out = tmp_path / "out"

    def publish_too_much() -> None:
        with Staging(out) as stage:
            fill(stage, "mask.tif", "run.json")
            stage.publish("changes.gpkg")  # never made

    with pytest.raises(FileNotFoundError):
        publish_too_much()

    assert names(tmp_path) == []


def test_a_killed_run_leaves_nothing_visible_and_the_next_one_clears_up(tmp_path):
    out = tmp_path / "out"
    code = (
        "import os, signal, sys; from changedet.write.staging import Staging\n"
        "with Staging(sys.argv[1]) as stage:\n"
        "    stage.path('mask.tif').write_text('half'); stage.publish('mask.tif')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(staging.__file__).parents[2])
    subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=root, check=False, env={**os.environ, "PYTHONPATH": root}
    )
    (left,) = names(out)
    assert left.startswith(".changedet-")

    with Staging(out) as stage:
        fill(stage, "run.json")

    assert names(out) == ["run.json"]


def test_work_folders_of_the_living_and_of_other_machines_stay(tmp_path):
    mine = f".changedet-{staging._HOST}-{os.getpid()}-abc"
    other = f".changedet-another{staging._HOST}-4194305-abc"
    dead = f".changedet-{staging._HOST}-4194305-abc"  # above the largest process id of Linux
    for name in (mine, other, dead):
        (tmp_path / name).mkdir()

    with Staging(tmp_path):
        pass

    assert names(tmp_path) == sorted([mine, other])


def test_a_full_disk_is_told_as_such(small_disk):
    out = small_disk / "out"
    with pytest.raises(OutputError, match="is full") as caught, Staging(out) as stage:
        stage.path("mask.tif").write_bytes(bytes(3 * 2**20))

    assert "free some space" in str(caught.value)
    assert names(small_disk) == []


def test_a_quota_counts_as_a_full_disk_and_other_errors_pass(tmp_path):
    with pytest.raises(OutputError, match="is full"), Staging(tmp_path / "out"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(PermissionError), Staging(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "an input")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="nothing can be written"), Staging(tmp_path / "file" / "out"):
        pass


def test_atomic_path_gives_the_same_name_and_renames_at_the_end(tmp_path):
    target = tmp_path / "new" / "changes.gpkg"
    with atomic_path(target) as path:
        assert path.name == "changes.gpkg"
        path.write_text("whole")
        assert not target.exists()

    assert target.read_text() == "whole"
    assert names(target.parent) == ["changes.gpkg"]


def test_atomic_path_leaves_nothing_behind_on_an_exception(tmp_path):
    def interrupt() -> None:
        with atomic_path(tmp_path / "new" / "changes.gpkg") as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()

    assert names(tmp_path) == []


def test_atomic_path_replaces_only_when_told_to(tmp_path):
    target = tmp_path / "changes.gpkg"
    target.write_text("old")
    (tmp_path / "changes.gpkg-wal").touch()
    with pytest.raises(OutputExistsError, match="exists"), atomic_path(target):
        pass
    with atomic_path(target, overwrite=True) as path:
        path.write_text("new")

    assert target.read_text() == "new"
    assert names(tmp_path) == ["changes.gpkg"]
    with pytest.raises(OutputExistsError, match="exists"), atomic_path(tmp_path, overwrite=True):
        pass

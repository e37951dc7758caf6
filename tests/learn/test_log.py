import sys
from pathlib import Path

import pytest

from changedet.errors import ConfigError
from changedet.learn.log import TrainingLog, read_log

_COLUMNS = ("loss", "validation_f1")


def _write(folder: Path, steps: range, first: int = 0, *, tensorboard: bool = False) -> None:
    log = TrainingLog(folder, _COLUMNS, first=first, tensorboard=tensorboard)
    for step in steps:
        log.write(step, {"loss": 1 / (step + 1), **({"validation_f1": 0.5} if step % 2 else {})})
    log.close()


def test_a_resumed_training_drops_the_rows_it_writes_again(tmp_path: Path) -> None:
    _write(tmp_path, range(5))
    _write(tmp_path, range(3, 6), first=3)
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row["validation_f1"] for row in rows] == ["", "0.5"] * 3
    assert rows[2]["loss"] == "0.333333"


def test_a_figure_that_the_changed_recipe_no_longer_has_is_dropped(tmp_path: Path) -> None:
    _write(tmp_path, range(3))
    log = TrainingLog(tmp_path, ("loss", "dice"), first=2, tensorboard=False)
    log.write(2, {"loss": 0.25, "dice": 0.5})
    assert read_log(tmp_path) == [
        {"step": "0", "loss": "1", "dice": ""},
        {"step": "1", "loss": "0.5", "dice": ""},
        {"step": "2", "loss": "0.25", "dice": "0.5"},
    ]


def test_a_training_that_begins_anew_begins_a_new_log(tmp_path: Path) -> None:
    _write(tmp_path, range(5))
    _write(tmp_path, range(2))
    assert [row["step"] for row in read_log(tmp_path)] == ["0", "1"]


def test_tensorboard_gets_every_figure(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _write(tmp_path, range(4), tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("validation_f1")] == [(1, 0.5), (3, 0.5)]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_no_event_files_unless_asked_for(tmp_path: Path) -> None:
    _write(tmp_path, range(2))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_says_how_to_install_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"(?s)not installed.*changedet\[tensorboard\]"):
        TrainingLog(tmp_path, _COLUMNS, first=0, tensorboard=True)

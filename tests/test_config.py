from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changedet.config import RunConfig, check_options, load_pipeline, parse_bytes
from changedet.errors import ConfigError, NotFoundError
from tests.pairs import ROOT

RUN = """\
# a comment, so that lines are not counted from the first key
run:
  before: a.tif
  after: b.tif
  out: out
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("500m", 5 * 10**8),
        ("4096", 4096),
        ("1k", 1000),
        ("3 TB", 3 * 10**12),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("value", ["", "GB", "2 parsecs", "1.2.3GB", "-1GB", "2ib"])
def test_what_is_no_size_is_refused_with_one_that_is(value: str) -> None:
    with pytest.raises(ConfigError, match=r"max_memory: .*a number of bytes, such as 2GB"):
        check_options({"max_memory": value})


@pytest.mark.parametrize("value", [None, 7])
def test_what_is_no_text_is_left_for_pydantic_to_judge(value: object) -> None:
    assert parse_bytes(value) == value


@given(st.integers(min_value=0, max_value=10**15))
def test_a_plain_number_of_bytes_is_itself(number: int) -> None:
    assert parse_bytes(str(number)) == parse_bytes(number) == number


@pytest.mark.parametrize("halo", ["default", "exact", 0, 96])
def test_a_halo_is_a_word_or_pixels(halo: str | int) -> None:
    assert check_options({"halo": halo}).halo == halo


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"threshold": 0}, r"threshold: .* \(got '0'\)"),
        ({"threshold": float("nan")}, "threshold"),
        ({"min_area": -1}, "min_area: .*greater than or equal to 0"),
        ({"min_area": float("inf")}, "min_area: .*finite"),
        ({"connectivity": 6}, "connectivity: .*4 or 8"),
        ({"max_memory": "1MB"}, "max_memory"),
        ({"halo": -16}, "halo"),
        ({"device": "gpu"}, "device"),
        ({"bounds": (1, 2, 3)}, "bounds"),
        ({"threshold": 2, "halo": "wide"}, r"threshold[\s\S]*; halo"),
        ({"ensemble": ("b",)}, "^ensemble adds models to `model`, which is not named$"),
        ({"vector": ("a.fgb", "a.fgb")}, "^vector names a place twice$"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_options(options)


def test_a_pipeline_file_gives_the_options_it_says_and_defaults_for_the_rest(tmp_path: Path) -> None:
    run = load_pipeline(_file(tmp_path, RUN + "  min_area: 400\n")).run
    assert run is not None
    assert (run.before, run.out, run.min_area) == ("a.tif", Path("out"), 400)
    assert run.model_dump(exclude={"before", "after", "out", "min_area"}) == RunConfig().model_dump(
        exclude={"min_area"}
    )


def test_what_yaml_takes_for_days_truths_and_numbers_is_text_as_it_stands(tmp_path: Path) -> None:
    text = RUN + "  dates: [2018-03-28, 2020-04-01T10:00:00Z]\n  co: {BIGTIFF: YES, LEVEL: 9}\n"
    run = load_pipeline(_file(tmp_path, text)).run
    assert run is not None
    assert run.dates == ("2018-03-28", "2020-04-01T10:00:00+00:00")
    assert run.co == {"BIGTIFF": "YES", "LEVEL": "9"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUN + "  colour: red\n", r"line 6: run\.colour: unknown key"),
        (RUN + "  max_memory: 2GB\n  threshold: high\n", r"line 7: run\.threshold: .*got 'high'"),
        (RUN + "  bounds:\n    - 1\n    - west\n    - 3\n    - 4\n", r"line 8: run\.bounds\.1"),
        (RUN + "  co: {COMPRESS: [1]}\n", r"line 6: run\.co\.COMPRESS"),
        (RUN.replace("  after: b.tif\n", ""), r"line 2: run\.after: Field required"),
        (RUN + "detect: {}\n", r"line 6: detect: unknown key"),
        (RUN + "  halo: 8\n  min_area: 1\n  halo: 9\n", "line 8: halo is in line 6 already"),
        (RUN + "run: {}\n", "line 6: run is in line 2 already"),
        ("{}\n", "line 1: file: .*one block: run, batch, train, pretrain or dataset"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml, " + message):
        load_pipeline(_file(tmp_path, text))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("before: a.tif", "before and after go together"),
        ("xyz: 12", "xyz is of a plan, which takes before and after"),
        ("aoi: a.gpkg", "aoi is of a plan, which takes before and after"),
        ("stac: true", "stac is of one run"),
        ("scheduler: tcp://h:1\n  workers: 2", "workers are those of the scheduler"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_its_line(options: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml, line 1: batch: .*" + message):
        load_pipeline(_file(tmp_path, f"batch:\n  manifest: m.csv\n  out: out\n  {options}\n"))


def test_the_options_of_a_batch_are_shared_out_among_plan_and_run(tmp_path: Path) -> None:
    options = "aoi: a.gpkg, xyz: 9, halo: 8, workers: 3, co: {LEVEL: '9'}, overwrite: true"
    text = f"batch: {{before: a, after: b, manifest: m.csv, out: o, {options}}}"
    step = load_pipeline(_file(tmp_path, text)).batch
    assert step is not None
    assert step.plan_options() == {"aoi": "a.gpkg", "xyz": 9, "halo": 8, "co": {"LEVEL": "9"}}
    assert step.run_options() == {"halo": 8, "workers": 3, "co": {"LEVEL": "9"}, "overwrite": True}


def test_every_mistake_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 7: run\.scale[\s\S]*line 6: run\.colour"):
        load_pipeline(_file(tmp_path, RUN + "  colour: red\n  scale: large\n"))


@pytest.mark.parametrize("text", ["run: [", "run: &a !!python/object:os.system {}", "\tx: 1"])
def test_what_is_not_plain_yaml_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        load_pipeline(_file(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_bytes(b"run: \xff\xfe")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_pipeline(tmp_path / "file.yaml")


@pytest.mark.parametrize("text", ["", "- run\n", "run\n"])
def test_a_file_without_a_block_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no block"):
        load_pipeline(_file(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no pipeline file"):
        load_pipeline(tmp_path / "nowhere.yaml")


def test_set_changes_and_adds_entries(tmp_path: Path) -> None:
    changes = ("run.out=elsewhere", "run.threshold=0.4", "run.co.COMPRESS=ZSTD", "run.bounds=[1, 2, 3, 4]")
    run = load_pipeline(_file(tmp_path, RUN), changes).run
    assert run is not None
    assert (run.out, run.threshold, run.co, run.bounds) == (Path("elsewhere"), 0.4, {"COMPRESS": "ZSTD"}, (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.out", "expected: key=value"),
        ("run.out.deeper=1", "out is not a block"),
        ("run.bounds=[", "the value is not YAML"),
        ("run.colour=red", "run.colour: unknown key"),
    ],
)
def test_a_set_that_cannot_be_is_refused(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_pipeline(_file(tmp_path, RUN), (change,))


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_pipelines_that_come_along_can_be_read(path: Path) -> None:
    load_pipeline(path)

"""Polygons in a real PostgreSQL with PostGIS."""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine

from changedet.detect.run import run
from changedet.errors import ConfigError, OutputError, OutputExistsError
from changedet.write.layers import Spool
from changedet.write.targets import target_of, write_target
from tests.commands import call
from tests.data import write_raster
from tests.pairs import crop_sample, tiny_model
from tests.write.test_geopackage import layers

sa = pytest.importorskip("sqlalchemy", reason="the extra postgis is not installed")
pytestmark = pytest.mark.system
SECRETS = ("p@ss/word:7", "p%40ss%2Fword%3A7")


def _unprivileged() -> list[str]:
    """Return what a command is prefixed with so that it does not run as root, which PostgreSQL refuses."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def _binaries() -> Path:
    """Return the folder of PostgreSQL's newest programs, which Debian keeps out of PATH."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("no PostgreSQL here (apt-get install postgresql postgis)")
    return Path(found).parent


@pytest.fixture(scope="module")
def postgis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database of our own with PostGIS, on loopback, with a password."""
    binaries = _binaries()
    folder = tmp_path_factory.mktemp("postgres")
    # pytest's own folders, pytest-of-USER/pytest-N and a process's in it, are for this user alone.
    for private in (folder, *(parent for parent in folder.parents if parent.name.startswith(("pytest-", "popen-")))):
        private.chmod(0o755)
    (folder / "password").write_text("p@ss/word:7")
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "nobody", "nogroup")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_unprivileged(), *map(str, command)], cwd=folder, capture_output=True, text=True, check=False
        )

    data = folder / "data"
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    made = call(
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "owner",
        f"--pwfile={folder / 'password'}",
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
    )
    assert made.returncode == 0, made.stderr
    started = call(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start")
    assert started.returncode == 0, started.stdout + (folder / "log").read_text()
    try:
        url = f"postgresql://owner:p%40ss%2Fword%3A7@127.0.0.1:{port}/postgres"
        made = call(binaries / "psql", url, "-c", "CREATE EXTENSION postgis")
        if made.returncode:
            pytest.skip(f"no PostGIS here (apt-get install postgis): {made.stderr.strip()}")
        yield url
    finally:
        call(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture
def ask(postgis):
    """A function that gives the rows of a query."""
    engine = sa.create_engine(postgis.replace("postgresql:", "postgresql+psycopg:"))

    def query(text):
        with engine.begin() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]

    yield query
    engine.dispose()


def write(folder, url, tables, **options):
    with Spool(folder / "spool") as spool:
        for name, table in tables.items():
            spool.write(name, table)
    return write_target(target_of(url), spool.layers(), **options)


def test_a_table_has_the_same_rows_columns_and_a_spatial_index(postgis, ask, tmp_path):
    tables = layers(changes=4)
    assert write(tmp_path, f"{postgis}?table=one", tables) == 4

    engine = sa.create_engine(postgis.replace("postgresql:", "postgresql+psycopg:"))
    found = gpd.read_postgis("SELECT * FROM one ORDER BY id", engine, geom_col="geom")
    engine.dispose()
    wanted = tables["changes"]
    assert list(found.columns) == [*wanted.columns.drop("geometry"), "geom"]
    assert found.crs == wanted.crs
    assert found.geom.geom_equals(wanted.geometry).all()
    for name in ("id", "area_m2", "class", "touches_edge", "date_before"):
        assert found[name].tolist() == wanted[name].tolist()
    assert found["direction"].isna().all()
    types = dict(ask("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'one'"))
    assert (types["touches_edge"], types["class"], types["area_m2"]) == ("boolean", "integer", "double precision")
    indexes = " ".join(row[0] for row in ask("SELECT indexdef FROM pg_indexes WHERE tablename = 'one'"))
    assert "USING gist (geom)" in indexes
    assert "UNIQUE INDEX" in indexes
    assert ask("SELECT type, srid FROM geometry_columns WHERE f_table_name = 'one'") == [("MULTIPOLYGON", 32633)]


def test_appending_adds_only_what_is_new_and_refuses_what_does_not_fit(postgis, ask, tmp_path):
    url = f"{postgis}?table=growing"
    write(tmp_path, url, layers(changes=3))

    with pytest.raises(OutputExistsError, match=r"table growing exists[\s\S]*--append"):
        write(tmp_path, url, layers(changes=5))
    assert write(tmp_path, url, layers(changes=5), append=True) == 2
    with pytest.raises(ConfigError, match="the same coordinate system"):
        write(tmp_path, url, layers(crs="EPSG:32634"), append=True)
    wider = layers()
    wider["changes"]["extra"] = 1.0
    with pytest.raises(ConfigError, match="no column extra"):
        write(tmp_path, url, wider, append=True)
    assert ask("SELECT count(*) FROM growing") == [(5,)]
    assert write(tmp_path, url, layers(changes=1), overwrite=True) == 1
    assert ask("SELECT count(*) FROM growing") == [(1,)]


def test_what_fails_half_way_leaves_nothing(postgis, ask, tmp_path):
    tables = layers(changes=3)
    tables["changes"]["id"] = tables["changes"]["id"].where(np.arange(3) < 2)  # a null where the key is

    with pytest.raises(OutputError, match="could not be written to"):
        write(tmp_path, f"{postgis}?table=half", tables)
    assert ask("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'half%'") == [(0,)]


def test_a_name_is_a_name_whatever_is_in_it(postgis, ask, tmp_path):
    write(tmp_path, f'{postgis}?table=a"; DROP TABLE spatial_ref_sys; --', layers())

    assert ask("SELECT count(*) > 0 FROM spatial_ref_sys") == [(True,)]


def test_a_run_and_a_command_write_the_same_rows_and_show_no_password(postgis, ask, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    model, url = tiny_model(tmp_path / "tiny.safetensors"), f"{postgis}?table=runs"
    options = {"model": str(model), "threshold": 0.45, "vector": (url, "geoparquet", str(tmp_path / "a.fgb"))}
    result = run(*crop_sample(tmp_path), tmp_path / "out", **options)

    assert ask("SELECT count(*) FROM runs") == [(len(result.changes),)]
    assert ask("SELECT id FROM runs ORDER BY id") == [(one,) for one in sorted(result.changes.id)]
    assert len(gpd.read_parquet(result.path("changes.parquet"))) == len(gpd.read_file(tmp_path / "a.fgb"))
    again = call(
        "vectorize", result.path("mask.tif"), "--probability", result.path("probability.tif"), "-o", url, "--append"
    )
    assert again.exit_code == 0, again.output
    assert again.stdout.startswith("0 changes written to postgresql://***@127.0.0.1")
    shown = [again.output, caplog.text, str(result.record)]
    shown += [result.path(name).read_bytes().decode("utf-8", "replace") for name in result.results]
    assert "report.html" in result.results
    assert not [text for text in shown for secret in SECRETS if secret in text]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("/postgres", "/absent", "does not exist"), ("p%40ss", "wrong", "password authentication failed")],
)
def test_a_database_that_refuses_is_told_without_the_password(postgis, tmp_path: Path, old, new, message):
    url = new.join(postgis.rsplit(old, 1))
    mask = write_raster(tmp_path / "mask.tif", np.ones((4, 4), np.uint8), transform=Affine(10, 0, 5e5, 0, -10, 5e6))

    refused = call("vectorize", mask, "-o", url)

    assert refused.exit_code == 8
    assert message in refused.stderr
    assert not [secret for secret in (*SECRETS, "wrong") if secret in refused.output]


def test_a_password_in_the_query_is_as_secret_as_one_before_the_host():
    from changedet.write.postgis import check_postgis

    with pytest.raises(OutputError, match="could not be written to") as refused:
        check_postgis("postgresql://127.0.0.1:1/db?user=me&password=s3cret%21", append=False, overwrite=False)
    assert "s3cret" not in str(refused.value)

"""Polygons to a PostGIS table: one transaction, a spatial index, no row twice.

Nothing that this module raises or logs holds the password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyproj
import shapely

from changedet.errors import ConfigError, OutputError, OutputExistsError
from changedet.write.layers import GEOMETRY, ID, Layer, check_fits
from changedet.write.provenance import redact

try:
    import sqlalchemy as sa
    from geoalchemy2 import Geometry
    from psycopg import Error as PsycopgError
    from psycopg import sql
except ImportError as missing:
    raise ConfigError(
        f"writing to PostGIS needs {missing.name}", remedy="pip install 'changedet[postgis]'"
    ) from missing

_GEOMETRY_COLUMN = "geom"
_CONNECT_SECONDS = 15


@dataclass(frozen=True, repr=False)
class _Place:
    """A table in a database. Its `repr` and `str` hold no password."""

    url: sa.URL
    schema: str | None
    table: str

    @classmethod
    def parsed(cls, text: str) -> _Place:
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):
            raise ConfigError(
                f"{redact(text)} is not a database's URL",
                expected="postgresql://USER:PASSWORD@HOST/DATABASE?table=NAME",
                remedy="write %40 for @, %2F for / and %3A for : in user and password",
            ) from None
        query = dict(url.query)
        table, schema = query.pop("table", "changes"), query.pop("schema", None)
        return cls(url.set(drivername="postgresql+psycopg", query=query), schema, table)  # type: ignore[arg-type]  # a name given twice is refused by the database

    def __str__(self) -> str:
        # SQLAlchemy hides what stands before the host, and not what libpq takes from the query as well.
        return redact(f"{self.url.render_as_string(hide_password=True)}, table {self.table}")

    __repr__ = __str__

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """Give a connection in one transaction; what goes wrong is told as ours, without secrets."""
        # A plan of the pool would keep the connection, and the password, after the work.
        options = {"poolclass": sa.pool.NullPool, "connect_args": {"connect_timeout": _CONNECT_SECONDS}}
        try:
            with sa.create_engine(self.url, hide_parameters=True, **options).begin() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, PsycopgError) as error:
            raise OutputError(
                f"{self} could not be written to ({self._without_secrets(error)})",
                expected="a database that can be reached, with PostGIS (CREATE EXTENSION postgis)",
                remedy="try the same URL with psql",
            ) from None

    def _without_secrets(self, error: Exception) -> str:
        text = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        for password in filter(None, (self.url.password, self.url.query.get("password"))):
            text = text.replace(str(password), "***")
        return redact(text)


def check_postgis(url: str, *, append: bool, overwrite: bool) -> None:
    """Check that a database can be reached and has PostGIS, and the table may be made or changed.

    Raises:
        ConfigError: the URL is none, or a driver is missing.
        OutputError: no connection, or no PostGIS.
        OutputExistsError: the table is there, and neither to be appended to nor to be replaced.
    """
    place = _Place.parsed(url)
    with place.connected() as connection:
        connection.execute(sa.text("SELECT postgis_version()"))
        _refuse_existing(connection, place, append=append, overwrite=overwrite)


def write_postgis(url: str, layer: Layer, *, append: bool = False, overwrite: bool = False) -> int:
    """Write a layer to a table, which is made where it is not there; all of it, or nothing.

    Args:
        url: `postgresql://USER:PASSWORD@HOST/DATABASE?table=changes&schema=public`.
        layer: with the column `id`, which becomes the primary key.
        append: add to the table that is there, but no row whose id is there already.
        overwrite: drop the table that is there.

    Returns:
        Rows that were written.

    Raises:
        ConfigError: the CRS has no number, or the table has other columns.
        OutputExistsError: the table is there, and neither to be appended to nor to be replaced.
        OutputError: the database refused.
    """
    place, srid = _Place.parsed(url), _srid(layer.crs)
    table = _table(place, layer, srid)
    with place.connected() as connection:
        _refuse_existing(connection, place, append=append, overwrite=overwrite)
        if overwrite and not append:
            table.drop(connection, checkfirst=True)
        if _exists(connection, place):
            _check_table(connection, place, layer)
        else:
            table.create(connection)
        return _insert(connection, place, layer, srid)


def _refuse_existing(connection: sa.Connection, place: _Place, *, append: bool, overwrite: bool) -> None:
    if _exists(connection, place) and not (append or overwrite):
        raise OutputExistsError(
            f"{place} exists", expected="a new table", remedy="--overwrite to replace it, --append to add to it"
        )


def _exists(connection: sa.Connection, place: _Place) -> bool:
    return bool(sa.inspect(connection).has_table(place.table, schema=place.schema))


def _srid(crs: pyproj.CRS) -> int:
    number = crs.to_epsg()
    if number is None:
        raise ConfigError(
            f"the coordinate system {crs.name} has no EPSG number",
            expected="one that PostGIS knows by its number",
            remedy="a GeoPackage, or gdalwarp the scenes to such a system",
        )
    return int(number)


def _table(place: _Place, layer: Layer, srid: int) -> sa.Table:
    columns = [
        sa.Column(field.name, _type_of(field.type), primary_key=field.name == ID)
        for field in layer.schema
        if field.name != GEOMETRY
    ]
    # GeoAlchemy2 makes the spatial index together with the table.
    geometry = sa.Column(_GEOMETRY_COLUMN, Geometry("MULTIPOLYGON", srid=srid), nullable=False)
    return sa.Table(place.table, sa.MetaData(), *columns, geometry, schema=place.schema)


def _type_of(arrow: pa.DataType) -> Any:
    if pa.types.is_floating(arrow):
        return sa.Double()
    if pa.types.is_boolean(arrow):
        return sa.Boolean()
    return sa.Integer() if pa.types.is_integer(arrow) else sa.Text()


def _check_table(connection: sa.Connection, place: _Place, layer: Layer) -> None:
    columns = {
        column["name"]: column["type"] for column in sa.inspect(connection).get_columns(place.table, place.schema)
    }
    names = [GEOMETRY if name == _GEOMETRY_COLUMN else name for name in columns]
    srid = getattr(columns.get(_GEOMETRY_COLUMN), "srid", None)
    check_fits(layer, names, pyproj.CRS(srid) if srid and srid > 0 else layer.crs)


def _insert(connection: sa.Connection, place: _Place, layer: Layer, srid: int) -> int:
    """Copy the rows to a table that goes with the transaction, and from there those whose ids are new."""
    target = sql.Identifier(*filter(None, (place.schema, place.table)))
    names = [_GEOMETRY_COLUMN if name == GEOMETRY else name for name in layer.schema.names]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    cursor = connection.connection.cursor()
    cursor.execute(
        sql.SQL("CREATE TEMPORARY TABLE changedet_rows ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
            columns, target
        )
    )
    with cursor.copy(sql.SQL("COPY changedet_rows ({}) FROM STDIN").format(columns)) as copy, layer.open() as reader:
        for batch in reader:
            for row in zip(*_columns(batch, srid), strict=True):
                copy.write_row(row)
    cursor.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM changedet_rows ON CONFLICT (id) DO NOTHING").format(
            target, columns, columns
        )
    )
    return int(cursor.rowcount)


def _columns(batch: Any, srid: int) -> Iterator[list[Any]]:
    for name in batch.schema.names:
        if name == GEOMETRY:
            geometries = shapely.set_srid(shapely.from_wkb(batch[name].to_numpy(zero_copy_only=False)), srid)
            yield shapely.to_wkb(geometries, hex=True, include_srid=True).tolist()
        else:
            yield batch[name].to_pylist()

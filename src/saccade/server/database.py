"""The database of keys, quotas and usage: SQLite beside the models, or PostgreSQL by its URL."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection, Engine

from saccade.errors import BadSettings, MissingExtra, Unreachable

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

log = logging.getLogger("saccade.server")

FILE = "saccade.db"
"""The database of a server that was given no other, in its home."""
HEAD = "0002"
"""The newest migration; a test compares it with the files."""

BUSY_S = 10
"""How long a writer waits for another process's transaction."""

MIGRATION_LOCK = 0x5ACCADE

tables = sql.MetaData()

keys = sql.Table(
    "keys",
    tables,
    sql.Column("id", sql.String(24), primary_key=True),
    sql.Column("name", sql.String(80), nullable=False),
    sql.Column("digest", sql.String(64), nullable=False, unique=True),
    sql.Column("prefix", sql.String(16), nullable=False),
    sql.Column("scopes", sql.Text, nullable=False),
    sql.Column("models", sql.Text, nullable=False),
    sql.Column("endpoints", sql.Text, nullable=False),
    sql.Column("quota_calls", sql.Integer),
    sql.Column("quota_window_s", sql.Integer),
    sql.Column("created", sql.Double, nullable=False),
    sql.Column("expires", sql.Double),
    sql.Column("revoked", sql.Double),
    sql.Column("last_used", sql.Double),
)

windows = sql.Table(
    "windows",
    tables,
    sql.Column("key_id", sql.String(24), primary_key=True),
    sql.Column("live", sql.Integer, nullable=False),
)

hits = sql.Table(
    "hits",
    tables,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("key_id", sql.String(24), nullable=False),
    sql.Column("at", sql.Double, nullable=False),
    sql.Column("token", sql.String(32), nullable=False),
    sql.Index("hits_by_key", "key_id", "at"),
)

usage = sql.Table(
    "usage",
    tables,
    sql.Column("day", sql.String(10), primary_key=True),
    sql.Column("key_id", sql.String(24), primary_key=True),
    sql.Column("model", sql.String(200), primary_key=True),
    sql.Column("calls", sql.Integer, nullable=False),
    sql.Column("errors", sql.Integer, nullable=False),
)

endpoints = sql.Table(
    "endpoints",
    tables,
    sql.Column("name", sql.String(128), primary_key=True),
    sql.Column("document", sql.Text, nullable=False),
)


versions = sql.Table(
    "alembic_version", sql.MetaData(), sql.Column("version_num", sql.String(32), primary_key=True, nullable=False)
)
"""Alembic's own table: of which migration the others are."""


class Database:
    """A migrated database. Thread-safe; ``read`` and ``write`` give a connection for one transaction."""

    def __init__(self, url: str, home: str) -> None:
        """``url`` "" means SQLite in the home.

        Raises:
            BadSettings: the URL cannot be used or the database not be reached.
            MissingExtra: its driver is not installed.
        """
        self.is_sqlite = not url or url.startswith("sqlite")
        if not url:
            _made(Path(home))
        # Not as text, in which a question mark would end the path.
        self.engine = _engine(url or sql.URL.create("sqlite", database=str(Path(home) / FILE)))
        file = self.engine.url.database
        in_file = bool(self.is_sqlite and file and not file.startswith(("file:", ":memory:")))
        if in_file:
            _begin(str(file))
        try:
            self._migrate()
        except (Unreachable, sql.exc.SQLAlchemyError) as error:
            failed = error.__cause__ if isinstance(error, Unreachable) else error
            cause = getattr(failed, "orig", None) or failed
            if not url:
                why = cause if isinstance(cause, sqlite3.Error) else type(cause).__name__
                raise BadSettings(
                    f"The database '{Path(home) / FILE}' cannot be used ({why}). {_advice(cause)}"
                ) from error
            raise BadSettings(
                f"The database cannot be used ({type(cause).__name__}). Check the setting 'database_url', and that "
                "the server runs."
            ) from error
        if in_file:
            _heed_the_file(self.engine, Path(str(file)))

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Reads what is committed; never waits for writers. Raises Unreachable."""
        with _told(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end; on SQLite it holds the write lock from the beginning.

        Raises:
            Unreachable: the database is gone, locked, full, damaged, or may only be read.
        """
        with _told(), self.engine.execution_options(saccade_write=True).begin() as connection:
            yield connection

    def upsert(self, table: sql.Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that knows ON CONFLICT."""
        if self.is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def close(self) -> None:
        """Ends all connections."""
        self.engine.dispose()

    def _migrate(self) -> None:
        """Makes the tables, or brings those of an older saccade up to date.

        New ones are made as they are now: Alembic costs a third of a second and 11 MB, and only old ones need it.
        """
        with contextlib.suppress(Unreachable), self.read() as connection:
            if _version(connection) == HEAD:
                return
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            there = sql.inspect(connection).get_table_names()
            if not there:
                tables.create_all(connection)
                versions.create(connection)
                connection.execute(versions.insert().values(version_num=HEAD))
            elif versions.name not in there or _version(connection) != HEAD:
                migrate(connection)


def migrate(connection: Connection) -> None:
    """Brings the tables of an older saccade up to date, within the transaction of the connection.

    Raises:
        BadSettings: they are those of a newer one.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise BadSettings(
            "The database was made by a newer saccade. Update this one, or choose another home or database."
        ) from error


def _version(connection: Connection) -> Any:
    return connection.execute(sql.select(versions.c.version_num)).scalar()


def unusable(what: str, why: str) -> Unreachable:
    """What a caller is told when keys or quotas cannot be looked up."""
    return Unreachable(f"The server's {what} cannot be used now ({why}). Try again once its operator has seen to it.")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Whatever the database fails by is told in a sentence, but for what no database would take."""
    try:
        yield
    except (sql.exc.DataError, sql.exc.IntegrityError):
        raise
    except sql.exc.DBAPIError as error:
        # SQLite's words hold nothing of the machine; those of others name hosts and users.
        why = str(error.orig) if isinstance(error.orig, sqlite3.Error) else type(error.orig).__name__
        raise unusable("database", why) from error


def _advice(cause: object) -> str:
    # SQLite's name may be more exact: SQLITE_READONLY_DIRECTORY, SQLITE_CANTOPEN_ISDIR.
    name = getattr(cause, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return "Free some room on its disk, or name another --home."
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "Another program holds it, a backup perhaps: try again when that is done."
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return (
            "This user must be able to write the file and its folder: run this as their owner, or name another --home."
        )
    return "If it is damaged, put a copy in its place, or move it away and make keys and endpoints anew."


def _made(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSettings(
            f"The home '{home}' cannot be made: {error.strerror}. Name another with --home or SACCADE_HOME."
        ) from error


def _begin(file: str) -> None:
    """Makes the file of a new database, for its user and group alone: it tells whose programs asked for what, how
    often. SQLite's other files get the same rights."""
    with contextlib.suppress(OSError):  # SQLite's own words for it are told
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o660))


def _engine(url: str | sql.URL) -> Engine:
    try:
        parsed = sql.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise BadSettings("The setting 'database_url' must begin with sqlite:/// or postgresql://.")
        engine = sql.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite", hide_parameters=True)
    except sql.exc.ArgumentError as error:
        raise BadSettings("The setting 'database_url' is no database URL, like postgresql://user@host/name.") from error
    except ModuleNotFoundError as error:
        raise MissingExtra("PostgreSQL", extra="postgres") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begun)
    else:
        from saccade.server.psycopg import connected

        event.listen(engine, "do_connect", lambda _dialect, _record, args, options: connected(*args, **options))
    return engine


def _heed_the_file(engine: Engine, file: Path) -> None:
    """From now on no connection outlives the file: one that was removed would go on to know revoked keys, and its
    successor, which is opened as soon as it is there, would be empty if it was made by looking for it."""
    missed = False

    def connecting(_dialect: Any, _record: Any, _args: Any, _options: Any) -> None:
        nonlocal missed
        if file.exists():
            missed = False
            return
        if not missed:
            missed = True
            log.error(
                "the database '%s' is gone: nobody is let in. Stop the server and put a copy of it back, or make new "
                "keys, which count at once: saccade keys create NAME",
                file,
            )
        raise sqlite3.OperationalError("its file is gone")

    def connected(_connection: Any, record: Any) -> None:
        record.info["file"] = _identity(file)

    def taken(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info["file"] != _identity(file):
            raise sql.exc.InvalidatePoolError("the file is another one")

    engine.dispose()  # one connection was made before
    event.listen(engine, "do_connect", connecting)
    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", taken)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sqlite_connected(connection: Any, _record: Any) -> None:
    """Write-ahead logging: readers never wait; a killed process loses nothing that was committed."""
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _sqlite_begun(connection: Connection) -> None:
    """The write lock is taken at the beginning: a transaction that reads first and writes later may fail in between."""
    writes = connection.get_execution_options().get("saccade_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

"""Dedicated endpoints in the database."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sql

from saccade.endpoints.endpoint import Record
from saccade.errors import BadOptions
from saccade.server.database import FILE, Database, endpoints
from saccade.server.quotas import drop
from saccade.server.settings import Settings

if TYPE_CHECKING:
    from saccade.library import Library

log = logging.getLogger("saccade.server")


class SqlRecords:
    """The endpoints' records, one row each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._damaged: set[str] = set()

    def all(self) -> Iterable[Record]:
        """Every endpoint, but for those whose record is damaged: they are told in the log, and may be made anew."""
        with self._database.read() as connection:
            rows = connection.execute(sql.select(endpoints)).all()
        records = {row.name: _record(row.document) for row in rows}
        for name in {name for name, record in records.items() if record is None} - self._damaged:
            self._damaged.add(name)
            log.error(
                "the endpoint '%s' is left out: what the database keeps of it cannot be read. Make it anew, or put a "
                "copy of the database in its place",
                name,
            )
        return [record for record in records.values() if record is not None]

    def save(self, record: Record) -> None:
        """Writes one, new or changed."""
        document = msgspec.json.encode(record).decode()
        insert = self._database.upsert(endpoints).values(name=record.name, document=document)
        with self._database.write() as connection:
            changed = insert.on_conflict_do_update(index_elements=[endpoints.c.name], set_={"document": document})
            connection.execute(changed)

    def swap(self, old: Record, new: Record) -> bool:
        """Writes a change, unless somebody else wrote one since ``old`` was read; whether it did."""
        at = endpoints.c.name == old.name
        with self._database.write() as connection:
            found = connection.execute(sql.select(endpoints.c.document).where(at).with_for_update()).scalar()
            if found is None or _record(found) != old:
                return False
            connection.execute(endpoints.update().where(at).values(document=msgspec.json.encode(new).decode()))
        return True

    def remove(self, name: str) -> None:
        """Forgets one, and what was counted against its limit; nothing happens if it is not there."""
        at = endpoints.c.name == name
        with self._database.write() as connection:
            found = connection.execute(sql.select(endpoints.c.document).where(at)).scalar()
            if found is not None:
                record = _record(found)
                if record is not None:
                    drop(connection, [record.id])
                connection.execute(endpoints.delete().where(at))


def _record(document: str) -> Record | None:
    """None: it cannot be read."""
    try:
        return msgspec.json.decode(document, type=Record)
    except msgspec.DecodeError:
        return None


def kept(settings: Settings) -> list[Record]:
    """The endpoints of an installation, for the command line; works while a server runs, and where none ever ran."""
    if not settings.database_url and not (Path(settings.home) / FILE).exists():
        return []
    database = Database(settings.database_url, settings.home)
    try:
        return list(SqlRecords(database).all())
    finally:
        database.close()


def check_unused(library: Library, ref: str, records: Iterable[Record]) -> None:
    """Nothing, if the model can be removed without an endpoint of this server losing it.

    Raises:
        BadOptions: endpoints use it; the message names them.
    """
    users = [one.name for one in records if not one.plan.region and library.takes(ref, one.plan.model)]
    if users:
        first, whose = users[0], "endpoint" if len(users) == 1 else "endpoints"
        names = ", ".join(f"'{name}'" for name in users)
        raise BadOptions(
            f"The model '{ref}' is used by the {whose} {names}. Before it can be removed: "
            f"saccade endpoints replace {first} OTHER-MODEL, or saccade endpoints rm {first}"
        )

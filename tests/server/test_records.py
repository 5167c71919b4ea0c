"""The records of dedicated endpoints, as several servers share them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
from msgspec.structs import replace

from saccade.endpoints.endpoint import Plan, Record
from saccade.server.database import Database, endpoints, hits, windows
from saccade.server.quotas import SqlWindows
from saccade.server.records import SqlRecords


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    database = Database("", str(tmp_path))
    yield SqlRecords(database)
    database.close()


def test_of_several_servers_that_claim_an_endpoint_exactly_one_gets_it(records: SqlRecords) -> None:
    record = Record(id="1", name="gate", plan=Plan(model="cars"), state="ready")
    records.save(record)

    def claim(number: int) -> bool:
        return records.swap(record, replace(record, state="deploying", claimed=float(number + 1)))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [False] * 7 + [True]
    assert [one.state for one in records.all()] == ["deploying"]


def test_an_endpoint_that_was_removed_cannot_be_claimed(records: SqlRecords) -> None:
    record = Record(id="1", name="gate", plan=Plan(model="cars"))
    assert not records.swap(record, replace(record, state="deploying"))
    assert list(records.all()) == []


def test_what_was_counted_against_the_limit_of_an_endpoint_goes_with_it(tmp_path: Path) -> None:
    database = Database("", str(tmp_path))
    records, limits = SqlRecords(database), SqlWindows(database)
    for name in ("gate", "yard"):
        records.save(Record(id=f"id-{name}", name=name, plan=Plan(model="cars")))
        assert limits.take(f"id-{name}", 9, 3600, 2).token
    records.remove("gate")
    with database.read() as connection:
        kept = {row for table in (windows, hits) for row in connection.execute(sql.select(table.c.key_id)).scalars()}
    assert kept == {"id-yard"}
    database.close()


@pytest.mark.parametrize(
    "document", ['{"id": "x",', '{"id": "1", "name": "gate", "plan": {"model": "cars"}, "state": "resting"}']
)
def test_a_damaged_record_costs_one_endpoint_which_can_be_made_anew_or_removed(
    document: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database("", str(tmp_path))
    records = SqlRecords(database)
    gate, yard = (Record(id=name, name=name, plan=Plan(model="cars")) for name in ("gate", "yard"))
    for record in (gate, yard):
        records.save(record)

    def damage() -> None:
        with database.write() as connection:
            connection.execute(endpoints.update().where(endpoints.c.name == "gate").values(document=document))

    damage()
    assert list(records.all()) == list(records.all()) == [yard]
    assert caplog.text.count("the endpoint 'gate' is left out") == 1
    assert not records.swap(gate, replace(gate, state="deploying"))
    records.save(gate)
    assert list(records.all()) == [gate, yard]
    damage()
    records.remove("gate")
    records.save(yard)
    assert list(records.all()) == [yard]
    database.close()

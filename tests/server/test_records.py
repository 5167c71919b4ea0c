"""The records of dedicated endpoints, as several servers share them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from saccade.endpoints.endpoint import Plan, Record
from saccade.server.database import Database
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

"""Access keys: random, shown once, kept as hashes; with names, expiry, scopes and limits of their own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.engine import Connection

from saccade.errors import BadOptions, UnknownKey
from saccade.server.database import Database, keys
from saccade.server.quotas import drop

MARK = "sac_"
PREFIX_LENGTH = 8
SCOPES = ("models", "endpoints", "admin")
LONGEST_NAME = 80
DAY_S = 86_400
MOST = (1 << 31) - 1
"""Of calls, and of seconds of a window: what every database counts."""
MOST_DAYS = 36_500


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. Times are seconds since 1970; ``quota_calls`` None is the server's default, 0 no limit.

    ``models`` and ``endpoints`` are patterns (``yolo*``) of what the key may call, where its scopes allow it at all.
    """

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...] = ("models",)
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)
    quota_calls: int | None = None
    quota_window_s: int | None = None
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None
    last_used: float | None = None

    def valid(self, now_s: float) -> bool:
        """Whether it opens anything now."""
        return self.revoked is None and (self.expires is None or now_s < self.expires)


class Keys:
    """All keys of one database. Blocking: call it from a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("models",),
        models: Sequence[str] = ("*",),
        endpoints: Sequence[str] = ("*",),
        quota_calls: int | None = None,
        quota_window_s: int | None = None,
        expires_days: float | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret, which nobody can show a second time.

        Raises:
            BadOptions: a field is out of range.
        """
        secret = MARK + secrets.token_hex(20)
        now = time.time()
        key = Key(
            id="key_" + secrets.token_hex(6),
            name=_checked_name(name),
            prefix=secret[:PREFIX_LENGTH],
            scopes=_checked_scopes(scopes),
            models=_checked_patterns("models", models),
            endpoints=_checked_patterns("endpoints", endpoints),
            quota_calls=_at_least(0, quota_calls, "The limit"),
            quota_window_s=_at_least(1, quota_window_s, "The window"),
            created=now,
            expires=None if expires_days is None else now + DAY_S * _days(expires_days),
        )
        with self._database.write() as connection:
            connection.execute(keys.insert().values(digest=digest_of(secret), **_row(key)))
            _forget_calls(connection)
        return key, secret

    def all(self, *, revoked: bool = False) -> list[Key]:
        """Every key, oldest first; revoked ones only when asked for."""
        query = sql.select(keys).order_by(keys.c.created)
        with self._database.read() as connection:
            found = [_key(row) for row in connection.execute(query)]
        return found if revoked else [key for key in found if key.revoked is None]

    def find(self, secret: str) -> Key | None:
        """The key with this secret, valid or not. The comparison takes the same time wherever the two differ."""
        digest = digest_of(secret)
        with self._database.read() as connection:
            row = connection.execute(sql.select(keys).where(keys.c.digest == digest)).one_or_none()
        return _key(row) if row is not None and hmac.compare_digest(row.digest, digest) else None

    def by_id(self, key_id: str) -> Key | None:
        """The key as it stands now."""
        with self._database.read() as connection:
            row = connection.execute(sql.select(keys).where(keys.c.id == key_id)).one_or_none()
        return None if row is None else _key(row)

    def exist(self) -> bool:
        """Whether any key was ever made: revoking the last one must not open the server to everybody."""
        with self._database.read() as connection:
            return connection.execute(sql.select(keys.c.id).limit(1)).first() is not None

    def revoke(self, which: str) -> Key:
        """Ends a key, named by its id, its name or how it starts; it opens nothing from now on.

        Raises:
            UnknownKey: no key is meant.
            BadOptions: several keys are meant.
        """
        there = self.all()
        meant = [key for key in there if key.id == which] or [key for key in there if which in (key.name, key.prefix)]
        if not meant:
            raise _unknown(which)
        if len(meant) > 1:
            ids = ", ".join(key.id for key in meant)
            raise BadOptions(f"'{which[:40]}' means {len(meant)} keys. Use the id of one: {ids}.")
        with self._database.write() as connection:
            _set(connection, meant[0].id, revoked=time.time())
            _forget_calls(connection)
        return meant[0]

    def change(self, key_id: str, **fields: Any) -> Key:
        """Changes name, scopes, models, endpoints or limits.

        Raises:
            UnknownKey: there is none of this id.
            BadOptions: nothing is to be changed, or a field is out of range.
        """
        checks: dict[str, Callable[[Any], Any]] = {
            "name": _checked_name,
            "scopes": _checked_scopes,
            "models": lambda value: _checked_patterns("models", value),
            "endpoints": lambda value: _checked_patterns("endpoints", value),
            "quota_calls": lambda value: _at_least(0, value, "The limit"),
            "quota_window_s": lambda value: _at_least(1, value, "The window"),
        }
        unknown = set(fields) - set(checks)
        if unknown:
            raise BadOptions(f"A key has no changeable field '{min(unknown)}'. Fields: {', '.join(checks)}.")
        checked = {name: checks[name](value) for name, value in fields.items()}
        packed = {name: _joined(value) if isinstance(value, tuple) else value for name, value in checked.items()}
        if not packed:
            raise BadOptions("There is nothing to change. Give a new name, scopes, models, endpoints or limit.")
        with self._database.write() as connection:
            found = _set(connection, key_id, **packed)
        changed = self.by_id(key_id) if found else None
        if changed is None:
            raise _unknown(key_id)
        return changed

    def touch(self, last_used: dict[str, float]) -> None:
        """Writes down when keys (by id) were used last."""
        change = keys.update().where(keys.c.id == sql.bindparam("key"), keys.c.revoked.is_(None))
        rows = [{"key": key_id, "moment": moment} for key_id, moment in sorted(last_used.items())]
        if rows:
            with self._database.write() as connection:
                connection.execute(change.values(last_used=sql.bindparam("moment")), rows)


def digest_of(secret: str) -> str:
    """What is kept of a secret. It has 160 random bits, so a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _set(connection: Connection, key_id: str, **values: object) -> bool:
    """Whether there was a key to change."""
    change = keys.update().where(keys.c.id == key_id, keys.c.revoked.is_(None)).values(**values)
    return connection.execute(change).rowcount == 1


def _forget_calls(connection: Connection) -> None:
    """Of keys that open nothing any more only their usage is kept; a clock that is wrong by hours loses nothing."""
    over = sql.or_(keys.c.revoked.is_not(None), keys.c.expires < time.time() - DAY_S)
    drop(connection, sql.select(keys.c.id).where(over))


def _key(row: Any) -> Key:
    fields = dict(row._mapping)
    del fields["digest"]
    for name in ("scopes", "models", "endpoints"):
        fields[name] = tuple(fields[name].split(",")) if fields[name] else ()
    return Key(**fields)


def _row(key: Key) -> dict[str, Any]:
    fields = msgspec.structs.asdict(key)
    return {name: _joined(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _joined(words: Sequence[str]) -> str:
    return ",".join(words)


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise BadOptions(f"A key needs a name of 1 to {LONGEST_NAME} characters, all of which can be printed.")
    return name.strip()


def _checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise BadOptions(f"A key's scopes are some of: {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _checked_patterns(what: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """One by one, also where several are written with commas. An empty list must not become a key for everything."""
    found = tuple(part.strip() for pattern in patterns for part in pattern.split(","))
    if not all(part and part.isprintable() for part in found) or not found:
        raise BadOptions(f'A key\'s {what} are names or patterns, at least one, such as ["yolo*"]; ["*"] means all.')
    return found


def _at_least(least: int, value: int | None, what: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST):
        raise BadOptions(f"{what} is {str(value)[:20]}; expected a whole number from {least} to {MOST}.")
    return value


def _days(days: float) -> float:
    if not 0 < days <= MOST_DAYS:
        raise BadOptions(f"A key cannot expire after {days:g} days; expected more than 0 and at most {MOST_DAYS}.")
    return days


def _unknown(which: str) -> UnknownKey:
    return UnknownKey(f"There is no key '{which[:40]}'. List those that exist with: saccade keys list")

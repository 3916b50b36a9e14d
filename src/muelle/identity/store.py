"""All SQL about accounts and what logs into them. Each function takes the transaction or reading that it is part of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL, ColumnElement, Row, and_, delete, func, or_, select, update

from muelle.identity.model import (
    LARGEST_SESSION_LIST,
    Account,
    ApiKey,
    KeyId,
    RoleWhy,
    Session,
    SessionId,
    State,
)
from muelle.identity.tables import accounts, api_keys, one_time_tokens, provider_links, recovery_codes, sessions
from muelle.kit.db import Reading, Transaction
from muelle.kit.http import Cursor, Role

AnyRow = Row[tuple[Any, ...]]


async def add_account(tx: Transaction, account: Account) -> bool:
    """False where the e-mail address is taken."""
    row = {column.name: getattr(account, column.name) for column in accounts.c}
    return bool(await tx.insert_new(accounts, [row], accounts.c.id))


async def account_by_id(reader: Reading, id: str) -> Account | None:
    return _account(await reader.first(select(accounts).where(accounts.c.id == id)))


async def account_by_email(reader: Reading, email: str) -> Account | None:
    return _account(await reader.first(select(accounts).where(accounts.c.email == email)))


async def lock_account(tx: Transaction, id: str) -> Account | None:
    """The account, with nobody else changing it until the transaction ends."""
    return _account(await tx.first(select(accounts).where(accounts.c.id == id).with_for_update()))


async def lock_account_by_email(tx: Transaction, email: str) -> Account | None:
    return _account(await tx.first(select(accounts).where(accounts.c.email == email).with_for_update()))


async def lock_account_by_link(tx: Transaction, issuer: str, subject: str) -> Account | None:
    linked = provider_links.c.issuer == issuer, provider_links.c.subject == subject
    query = select(accounts).join(provider_links).where(*linked)
    return _account(await tx.first(query.with_for_update(of=accounts)))


async def lock_with_administrators(tx: Transaction, id: str) -> list[Account]:
    """The account and all who administer, in one order for everybody: so that two administrators who remove each other
    go one after the other, and the second sees what the first has done."""
    administers = and_(accounts.c.role == Role.ADMIN, accounts.c.state == State.ACTIVE)
    query = select(accounts).where(or_(accounts.c.id == id, administers)).order_by(accounts.c.id)
    return [_account_of(row) for row in await tx.all(query.with_for_update())]


async def change_account(tx: Transaction, id: str, **values: Any) -> Account | None:
    change = update(accounts).where(accounts.c.id == id).values(version=accounts.c.version + 1, **values)
    return _account((await tx.run(change.returning(accounts))).first())


async def use_totp_step(tx: Transaction, id: str, step: int) -> bool:
    """False where that step, or a later one, has been used: by whoever was faster."""
    unused = accounts.c.id == id, accounts.c.totp_last_step < step
    return bool((await tx.run(update(accounts).where(*unused).values(totp_last_step=step))).rowcount)


async def remove_account(tx: Transaction, id: str) -> None:
    await tx.run(delete(accounts).where(accounts.c.id == id))


async def list_accounts(
    reader: Reading, cursor: Cursor, search: str, role: str | None, state: str | None
) -> list[Account]:
    query = select(accounts).order_by(accounts.c.id).limit(cursor.limit + 1)
    if cursor.after:
        query = query.where(accounts.c.id > cursor.after)
    if search:
        any_case, as_typed = _containing(search.lower()), _containing(search)
        name_matches = or_(
            func.lower(accounts.c.name).like(any_case, escape="\\"),
            accounts.c.name.like(as_typed, escape="\\"),  # SQLite knows the cases of ASCII only
        )
        query = query.where(or_(accounts.c.email.like(any_case, escape="\\"), name_matches))
    if role:
        query = query.where(accounts.c.role == role)
    if state:
        query = query.where(accounts.c.state == state)
    return [_account_of(row) for row in await reader.all(query)]


async def count_accounts(reader: Reading, *conditions: ColumnElement[bool]) -> int:
    return int(await reader.scalar(select(func.count()).select_from(accounts).where(*conditions)))


async def link_provider(
    tx: Transaction, *, issuer: str, subject: str, account_id: str, provider: str, now: datetime
) -> bool:
    """False where somebody was faster."""
    row = {"issuer": issuer, "subject": subject, "account_id": account_id, "provider": provider, "linked_at": now}
    return bool(await tx.insert_new(provider_links, [row], provider_links.c.subject))


async def unlink_providers(tx: Transaction, account_id: str) -> None:
    await tx.run(delete(provider_links).where(provider_links.c.account_id == account_id))


async def is_open(reader: Reading, session_id: str, account_id: str) -> bool:
    this = sessions.c.id == session_id, sessions.c.account_id == account_id
    return await reader.scalar(select(sessions.c.id).where(*this)) is not None


async def add_session(tx: Transaction, session: Session) -> None:
    await tx.run(sessions.insert().values({column.name: getattr(session, column.name) for column in sessions.c}))


async def session_with_account(reader: Reading, id: str) -> tuple[Session, Account] | None:
    query = select(sessions, accounts).join(accounts, accounts.c.id == sessions.c.account_id)
    row = await reader.first(query.where(sessions.c.id == id).set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL))
    return None if row is None else (_session_of(row, "sessions_"), _account_of(row, "accounts_"))


async def next_generation(tx: Transaction, session: Session, now: datetime, expires_at: datetime) -> bool:
    """False where somebody else has used this generation."""
    same = sessions.c.id == session.id, sessions.c.generation == session.generation
    change = update(sessions).where(*same).values(generation=session.generation + 1, seen_at=now, expires_at=expires_at)
    return bool((await tx.run(change)).rowcount)


async def list_sessions(reader: Reading, account_id: str, now: datetime) -> list[Session]:
    mine = sessions.c.account_id == account_id, sessions.c.expires_at > now
    query = select(sessions).where(*mine).order_by(sessions.c.seen_at.desc()).limit(LARGEST_SESSION_LIST)
    return [_session_of(row) for row in await reader.all(query)]


async def remove_sessions(
    tx: Transaction, account_id: str, *, only: str | None = None, but: str | None = None
) -> list[SessionId]:
    gone = delete(sessions).where(sessions.c.account_id == account_id).returning(sessions.c.id)
    if only is not None:
        gone = gone.where(sessions.c.id == only)
    if but is not None:
        gone = gone.where(sessions.c.id != but)
    return [SessionId(row.id) for row in (await tx.run(gone)).all()]


async def remove_expired(tx: Transaction, now: datetime) -> None:
    """What somebody else is just working on stays until the next time."""
    over = select(sessions.c.id).where(sessions.c.expires_at <= now).with_for_update(skip_locked=True)
    await tx.run(delete(sessions).where(sessions.c.id.in_(over)))
    hashes = select(one_time_tokens.c.token_hash).where(one_time_tokens.c.expires_at <= now)
    old = hashes.with_for_update(skip_locked=True)
    await tx.run(delete(one_time_tokens).where(one_time_tokens.c.token_hash.in_(old)))


async def add_key(tx: Transaction, key: ApiKey) -> None:
    row = {column.name: getattr(key, column.name) for column in api_keys.c} | {"scopes": " ".join(sorted(key.scopes))}
    await tx.run(api_keys.insert().values(row))


async def key_with_account(reader: Reading, prefix: str) -> tuple[ApiKey, Account] | None:
    query = select(api_keys, accounts).join(accounts, accounts.c.id == api_keys.c.account_id)
    row = await reader.first(query.where(api_keys.c.prefix == prefix).set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL))
    return None if row is None else (_key_of(row, "api_keys_"), _account_of(row, "accounts_"))


async def list_keys(reader: Reading, account_id: str) -> list[ApiKey]:
    query = select(api_keys).where(api_keys.c.account_id == account_id).order_by(api_keys.c.id)
    return [_key_of(row) for row in await reader.all(query)]


async def note_key_use(tx: Transaction, id: str, now: datetime) -> None:
    await tx.run(update(api_keys).where(api_keys.c.id == id).values(last_used_at=now))


async def remove_keys(tx: Transaction, account_id: str, only: str | None = None) -> list[KeyId]:
    gone = delete(api_keys).where(api_keys.c.account_id == account_id).returning(api_keys.c.id)
    if only is not None:
        gone = gone.where(api_keys.c.id == only)
    return [KeyId(row.id) for row in (await tx.run(gone)).all()]


async def set_recovery_codes(tx: Transaction, account_id: str, hashes: Sequence[str]) -> None:
    await tx.run(delete(recovery_codes).where(recovery_codes.c.account_id == account_id))
    if hashes:
        await tx.run(recovery_codes.insert(), [{"account_id": account_id, "code_hash": hash} for hash in hashes])


async def use_recovery_code(tx: Transaction, account_id: str, hash: str) -> int | None:
    """How many are left, or None where it is none of them."""
    mine = recovery_codes.c.account_id == account_id
    if not (await tx.run(delete(recovery_codes).where(mine, recovery_codes.c.code_hash == hash))).rowcount:
        return None
    return int(await tx.scalar(select(func.count()).select_from(recovery_codes).where(mine)))


async def add_one_time_token(tx: Transaction, hash: str, purpose: str, account: Account, expires_at: datetime) -> None:
    """Gives out a token; an earlier one for the same purpose is spent by that."""
    await remove_one_time_tokens(tx, account.id, purpose)
    row = {"token_hash": hash, "purpose": purpose, "account_id": account.id}
    await tx.run(one_time_tokens.insert().values(**row, email=account.email, expires_at=expires_at))


async def spend_one_time_token(tx: Transaction, hash: str, purpose: str, now: datetime) -> AnyRow | None:
    this = one_time_tokens.c.token_hash == hash, one_time_tokens.c.purpose == purpose
    fresh = one_time_tokens.c.expires_at > now
    return (await tx.run(delete(one_time_tokens).where(*this, fresh).returning(one_time_tokens))).first()


async def one_time_token_holder(reader: Reading, hash: str, purpose: str, now: datetime) -> Account | None:
    this = one_time_tokens.c.token_hash == hash, one_time_tokens.c.purpose == purpose
    query = select(accounts).join(one_time_tokens).where(*this, one_time_tokens.c.expires_at > now)
    return _account(await reader.first(query))


async def remove_one_time_tokens(tx: Transaction, account_id: str, purpose: str | None = None) -> None:
    gone = delete(one_time_tokens).where(one_time_tokens.c.account_id == account_id)
    await tx.run(gone.where(one_time_tokens.c.purpose == purpose) if purpose else gone)


def _containing(text: str) -> str:
    """A pattern for LIKE, in which every character of the text stands for itself."""
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _account(row: AnyRow | None) -> Account | None:
    return None if row is None else _account_of(row)


def _account_of(row: AnyRow, prefix: str = "") -> Account:
    values = _values(row, prefix, accounts)
    values |= {"role": Role(values["role"]), "role_why": RoleWhy(values["role_why"]), "state": State(values["state"])}
    return Account(**values)


def _session_of(row: AnyRow, prefix: str = "") -> Session:
    return Session(**_values(row, prefix, sessions))


def _key_of(row: AnyRow, prefix: str = "") -> ApiKey:
    values = _values(row, prefix, api_keys)
    return ApiKey(**values | {"scopes": frozenset(values["scopes"].split())})


def _values(row: AnyRow, prefix: str, table: Any) -> dict[str, Any]:
    return {column.name: row._mapping[prefix + column.name] for column in table.c}

"""Takes events in, each once: recorded with the points that it adds, in one transaction."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.core.db import Database
from domain.core.settings import Settings
from domain.stripe import endpoints, events, judging, queries, writing
from domain.stripe.endpoints import Endpoint
from domain.stripe.events import Event
from domain.stripe.judging import Verdict
from domain.stripe.models import KEPT, State, StripeEvent
from domain.stripe.remembered import Remembered
from domain.stripe.sealing import Seal
from domain.stripe.writing import NoPlace
from domain.telemetry.admission import Admission
from domain.telemetry.columns import Columns
from domain.telemetry.placing import Registry
from domain.telemetry.senders import ASKED_AGAIN_AFTER

_MOST_WAITING = 16 * 1024 * 1024  # bytes of bodies, which until they are read may be anybody's
_ROTATIONS_SEEN_AFTER = timedelta(seconds=5)


@dataclass(frozen=True)
class Receipt:
    """What became of an event; `state` is None for one that came before. `kind` is of a closed set."""

    kind: str
    state: State | None


@dataclass(frozen=True)
class _Prepared:
    """An event, what is to be kept of it, and its points."""

    event: Event
    verdict: Verdict
    stripe_account: str | None
    account_id: UUID | None = None
    points: Columns | None = None


class _Owner(NamedTuple):
    """An account of ours that events are of."""

    id: UUID
    external_id: str


class Receiver:
    """Takes in the events of one process; remembers endpoints, whose accounts are whose, and series."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db, self._settings = db, settings
        lag = timedelta(seconds=settings.ingest_most_lag)
        self.admission = Admission(db, most_bytes=_MOST_WAITING, most_lag=lag)
        self._seal = Seal(settings.secret_keys.get_secret_value())
        self._platforms = settings.stripe_secrets.get_secret_value()
        self._registry = self._new_registry()
        self._endpoints: Remembered[UUID, Endpoint] = Remembered(_ROTATIONS_SEEN_AFTER)
        self._owners: Remembered[tuple[UUID, str | None, bool], _Owner] = Remembered(ASKED_AGAIN_AFTER)

    async def endpoint(self, key: UUID | None, *, at: datetime) -> Endpoint:
        """The endpoint with that id, None: the settings' own. Raises EndpointNotFound, SecretUnreadable."""
        if key is None:
            return endpoints.of_settings(self._platforms)
        known = self._endpoints.get(key, at)
        if known is not None:
            return known
        return self._endpoints.put(key, await endpoints.find(self._db, key, self._seal, at=at), at)

    async def receive(self, endpoint: Endpoint, body: bytes, *, at: datetime) -> Receipt:
        """Take in a body that the endpoint's signature proves; when this returns, it is durable.

        The same event again, also at the same time, changes nothing. Raises NoEvent.
        """
        event = events.parse(body)
        prepared = await self._prepare(endpoint, event, at=at)
        async with self._db.transaction(endpoint.scope) as session:
            is_new = await _record(session, endpoint, prepared, at=at)
            if is_new and prepared.points is not None:
                await writing.log(session, prepared.points, is_backfill=False, at=at)
        return Receipt(judging.kind(event), prepared.verdict.state if is_new else None)

    async def _prepare(self, endpoint: Endpoint, event: Event, *, at: datetime) -> _Prepared:
        verdict = judging.judge(event, takes_tests=endpoint.takes_tests, at=at)
        named = event.account or verdict.merchant
        if not verdict.facts:
            return _Prepared(event, verdict, named)
        owner = await self._owner(endpoint, event, named, at=at)
        if owner is None:
            return _Prepared(event, replace(verdict, state=State.UNMAPPED), named)
        try:
            points = await writing.place(
                verdict.facts,
                owner.external_id,
                happened_at=event.created_at,
                registry=self._open_registry(),
                sender=endpoint.sender,
                at=at,
            )
        except NoPlace as error:
            return _Prepared(event, Verdict(State.FAILED, str(error)), named, owner.id)
        return _Prepared(event, verdict, named, owner.id, points)

    async def _owner(
        self, endpoint: Endpoint, event: Event, named: str | None, *, at: datetime
    ) -> _Owner | None:
        key = endpoint.id, named, event.account is not None
        known = self._owners.get(key, at)
        if known is not None:
            return known
        found = await self._account(endpoint, event, named)
        return self._owners.put(key, _Owner(found.id, found.external_id), at) if found else None

    async def _account(self, endpoint: Endpoint, event: Event, named: str | None) -> Account | None:
        """Whose event it is: the account that it names, among those that the endpoint may write to.

        What an endpoint's own account charges for a merchant that nobody mapped is its own. The
        transaction's scope sees no other accounts, whatever is asked here.
        """
        async with self._db.read(endpoint.sender.scope) as session:
            if named is not None:
                found = await queries.mapped(session, named, below=endpoint.account_id)
                if found is not None or event.account is not None:
                    return found
            return await session.get(Account, endpoint.account_id) if endpoint.account_id else None

    def _new_registry(self) -> Registry:
        most_series, most_sources = self._settings.most_series, self._settings.most_sources
        return Registry(self._db, most_series=most_series, most_sources=most_sources)

    def _open_registry(self) -> Registry:
        if self._registry.is_full:
            self._registry = self._new_registry()
        return self._registry


async def _record(session: AsyncSession, endpoint: Endpoint, prepared: _Prepared, *, at: datetime) -> bool:
    """Whether the event is new, to the endpoint and to the account that it counts for."""
    event, verdict = prepared.event, prepared.verdict
    row = {
        "endpoint_id": endpoint.id,
        "id": event.id,
        "type": event.type,
        "state": verdict.state,
        "is_live": event.is_live,
        "stripe_account": prepared.stripe_account,
        "account_id": prepared.account_id,
        "created_at": event.created_at,
        "received_at": at,
        "payload": event.body if verdict.state in KEPT else None,
        "remark": verdict.remark,
        "next_attempt_at": at if verdict.state is State.UNRESOLVED else None,
    }
    made = await session.execute(
        insert(StripeEvent).values(row).on_conflict_do_nothing().returning(StripeEvent.id)
    )
    return made.first() is not None

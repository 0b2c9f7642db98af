"""From a commit through a relay of its own to a socket: what was missed while either was away still comes."""

from typing import Any

from domain.core.db import Database
from domain.core.settings import Settings
from domain.delivery import queries as delivery
from domain.incidents import service as incidents
from tests import make
from tests.api.conftest import Api
from tests.api.sockets import opened
from tests.api.test_feed import following
from tests.api.worlds import DETECTOR, World
from tests.make import NOON
from tests.workers.test_relay import is_published, relay, until


async def test_nothing_is_lost_when_the_socket_drops_and_the_relay_is_killed_and_started_in_between(
    api: Api, db: Database, worker_db: Database, settings: Settings
) -> None:
    world = await World.begin(worker_db)
    account = (await world.settle("Ana", money=7)).account
    key, stream = await make.key(db, account=account), f"account:{account.id}"
    async with db.read(stream) as session:
        cursor = delivery.encode(stream, await delivery.latest_sequence(session, stream))
    told: list[str] = []

    async def tell(count: int) -> None:
        for _ in range(count):
            told.append(f"Update {len(told)}.")
            async with worker_db.transaction() as session:
                await incidents.post_update(
                    session, world.incident.id, body=told[-1], actor=DETECTOR, at=NOON
                )

    seen: list[dict[str, Any]] = []

    async def read(until_seen: int) -> None:
        nonlocal cursor
        async with opened(api.socket_url, key=key) as socket:
            await socket.init()
            async for event in following(socket, after=cursor):
                seen.append(event)
                cursor = event["cursor"]
                if len(seen) == until_seen:
                    break
            await socket.drop()

    async with relay(settings) as first:
        await tell(5)
        await read(3)
        await tell(20)
        first.kill()
        await first.wait()
    await tell(5)
    async with relay(settings):
        await read(17)
        await until(lambda: is_published(worker_db))
        await read(len(told))

    assert [event["update"]["body"] for event in seen] == told
    sequences = [event["sequence"] for event in seen]
    assert sequences == list(range(sequences[0], sequences[0] + len(told)))

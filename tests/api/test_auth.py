import pytest

from api.auth import REMEMBERED_S, KnownKeys
from domain.access import service as access
from domain.access.credentials import Credential
from domain.access.models import PrincipalKind, Unauthenticated
from domain.core.db import Database
from tests import make
from tests.make import NOON


async def test_a_key_is_proved_once_and_again_after_a_few_seconds(db: Database) -> None:
    now = 100.0
    keys = KnownKeys(db, clock=lambda: now)
    text = await make.key(db)
    principal = await keys.identify(f"Bearer {text}")
    assert principal.kind is PrincipalKind.OPERATOR
    async with db.transaction("operator") as session:
        await access.revoke(session, Credential.parse(text).prefix, by="test", at=NOON)

    now += REMEMBERED_S - 0.1
    assert await keys.identify(f"bearer  {text}") is principal
    now += 0.2
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await keys.identify(f"Bearer {text}")


async def test_the_text_of_a_key_is_not_kept(db: Database) -> None:
    keys = KnownKeys(db)
    text = await make.key(db)
    await keys.identify(f"Bearer {text}")

    assert text not in repr(vars(keys))
    assert Credential.parse(text).secret not in repr(vars(keys))

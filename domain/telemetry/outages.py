"""The refusal of what cannot be taken now, and what a database that is away, full or read-only looks like."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.core.errors import DomainError

# Of what was asked for, not of the server: wrong data, a constraint, no such table or no right to it,
# a statement beyond what any server takes.
_OURS = ("22", "23", "42", "54")


class Unavailable(DomainError):
    """Nothing was taken; the same may be sent again after `retry_after_s`."""

    code = "UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def is_outage(error: BaseException | None) -> bool:
    """Whether the database is the trouble, so that the same may do later."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_outage(error.orig and error.orig.__cause__)
    if isinstance(error, asyncpg.PostgresError):
        return not (error.sqlstate or "").startswith(_OURS)
    # InternalClientError is a connection that was lost between the messages of one query.
    return isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, PoolTimeout))


@contextmanager
def told() -> Iterator[None]:
    """Raise Unavailable for what the database cannot do now."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        raise Unavailable(
            "Nothing was taken: the database cannot be reached, or cannot write now."
        ) from error

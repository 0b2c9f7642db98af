"""Errors as clients see them: a code, a plain message, the request's id, and never an exception's text."""

import logging
from collections.abc import Iterator
from typing import Any

from graphql import GraphQLError
from sqlalchemy.exc import DBAPIError
from strawberry.extensions import SchemaExtension
from strawberry.types import StreamExecutionResult

from domain.core.errors import DomainError

log = logging.getLogger(__name__)


class Forbidden(GraphQLError):
    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": "FORBIDDEN"})


class BadInput(GraphQLError):
    def __init__(self, message: str) -> None:
        super().__init__(message, extensions={"code": "BAD_USER_INPUT"})


def told(error: GraphQLError, *, request_id: str) -> GraphQLError:
    """The error that the client gets. What nobody foresaw is logged in full and told as INTERNAL."""
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    code, message = _code(error, cause)
    if code == "INTERNAL":
        log.error("Request %s failed at %s", request_id, error.path, exc_info=cause)
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions={"code": code, "requestId": request_id},
    )


def _code(error: GraphQLError, cause: Exception | None) -> tuple[str, str]:
    if cause is None or isinstance(cause, GraphQLError):
        given = (error.extensions or {}).get("code") or (getattr(cause, "extensions", None) or {}).get("code")
        return given or "BAD_USER_INPUT", error.message
    if isinstance(cause, DomainError):
        code = "UNAUTHENTICATED" if cause.code == "UNAUTHENTICATED" else "BAD_USER_INPUT"
        return code, str(cause)
    if isinstance(cause, TimeoutError):
        return "TIMEOUT", "This took too long: ask for less at once."
    if isinstance(cause, DBAPIError) and is_unfit_value(cause):
        return "BAD_USER_INPUT", "A value cannot be used: it holds NUL or is out of range."
    return "INTERNAL", "Something went wrong on our side."


def is_unfit_value(error: DBAPIError) -> bool:
    """Whether Postgres or its driver refused a value as such (class 22 of SQLSTATE), not the statement."""
    driver = getattr(error.orig, "__cause__", None)
    state = getattr(driver, "sqlstate", None)
    return state.startswith("22") if state else type(driver).__name__ == "DataError"


def refusal(code: str, message: str, *, request_id: str) -> dict[str, Any]:
    """A reply to a request that was not executed."""
    error = GraphQLError(message, extensions={"code": code, "requestId": request_id})
    return {"errors": [error.formatted]}


class ToldErrors(SchemaExtension):
    """Replaces the errors of every result, of subscriptions too, by what the client may know."""

    def on_operation(self) -> Iterator[None]:
        yield
        self._tell(self.execution_context.result)

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        self._tell(result)
        yield

    def _tell(self, result: Any) -> None:
        context = self.execution_context.context
        for index, error in enumerate(getattr(result, "errors", None) or ()):
            if "requestId" in (error.extensions or {}):
                continue  # the last result of a stream passes here twice
            result.errors[index] = told(error, request_id=context.request_id)
            code = result.errors[index].extensions["code"]
            context.process.metrics.add("vitals_graphql_errors_total", code=code)

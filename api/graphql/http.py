"""GraphQL over HTTP: what a request may look like, and which status and type its reply has.

A reply of type application/graphql-response+json says by its status whether the document was executed; one of
the older application/json is 200 for every request that is well formed.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from strawberry.http import process_result
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from api.graphql.context import Context
from api.graphql.errors import refusal, told
from api.graphql.schema import schema
from api.process import Process
from api.requests import request_id
from domain.access.models import Unauthenticated

MAX_BODY = 256 * 1024
TIMEOUT_S = 15
NEW_TYPE, OLD_TYPE = "application/graphql-response+json", "application/json"
_ALLOWED = {
    "GET": {OperationType.QUERY},
    "POST": {OperationType.QUERY, OperationType.MUTATION},
}


class Parameters(msgspec.Struct):
    """What a request asks to be executed."""

    query: str
    operationName: str | None = None  # the name on the wire
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


class Refused(Exception):
    """The request cannot be executed as it is; the text is for the client."""

    def __init__(self, status: int, message: str, *, code: str = "BAD_USER_INPUT", **headers: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def endpoint(request: Request) -> Response:
    """`POST` and `GET /graphql`."""
    try:
        return await _answer(request)
    except Refused as refused:
        body = refusal(refused.code, str(refused), request_id=request_id(request.scope))
        return JSONResponse(
            body, refused.status, refused.headers, media_type=_media_type(request) or OLD_TYPE
        )


async def _answer(request: Request) -> Response:
    process: Process = request.app.state.process
    if request.method not in _ALLOWED:
        raise Refused(405, "GraphQL is asked by GET or POST.", allow="GET, POST")
    media_type = _media_type(request)
    if media_type is None:
        raise Refused(406, f"Replies are {NEW_TYPE} or {OLD_TYPE}.")
    try:
        principal = await process.keys.identify(request.headers.get("authorization"))
    except Unauthenticated as error:
        raise Refused(401, str(error), code="UNAUTHENTICATED", www_authenticate="Bearer") from error
    asked = _from_query(request) if request.method == "GET" else await _from_body(request)
    context = Context(process, principal, request_id(request.scope))
    result = await _execute(asked, context, request.method)
    body = process_result(result)
    if not _was_executed(result):
        del body["data"]
        return JSONResponse(body, 400 if media_type == NEW_TYPE else 200, media_type=media_type)
    return JSONResponse(body, media_type=media_type)


async def _execute(asked: Parameters, context: Context, method: str) -> ExecutionResult:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await schema.execute(
                asked.query,
                variable_values=asked.variables,
                context_value=context,
                operation_name=asked.operationName,
                operation_extensions=asked.extensions,
                allowed_operation_types=_ALLOWED[method],
            )
    except TimeoutError:
        late = GraphQLError("", original_error=TimeoutError())
        return ExecutionResult(data=None, errors=[told(late, request_id=context.request_id)])
    except CannotGetOperationTypeError as error:
        raise Refused(400, error.as_http_error_reason()) from error
    except InvalidOperationTypeError as error:
        name = error.operation_type.value
        if error.operation_type is OperationType.SUBSCRIPTION:
            raise Refused(400, "Subscriptions are served over graphql-transport-ws.") from error
        raise Refused(405, f"A {name} cannot be asked by {method}.", allow="POST") from error


def _was_executed(result: ExecutionResult) -> bool:
    """Whether it came to executing: errors of the document and its variables stand at no path of a result."""
    faults = (error.path is None and _code(error) == "BAD_USER_INPUT" for error in result.errors or ())
    return result.data is not None or not any(faults)


def _code(error: GraphQLError) -> object:
    return (error.extensions or {}).get("code")


def _media_type(request: Request) -> str | None:
    """What the client accepts, None where we have none of it; without the header, the older type."""
    accept = request.headers.get("accept")
    if accept is None:
        return OLD_TYPE
    offers = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if offers & {NEW_TYPE, "*/*", "application/*"}:
        return NEW_TYPE if NEW_TYPE in offers else OLD_TYPE
    return OLD_TYPE if OLD_TYPE in offers else None


async def _from_body(request: Request) -> Parameters:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise Refused(415, "The body must be application/json.")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset not in ("", "utf-8", "utf8"):
        raise Refused(415, "The body must be in UTF-8.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "The body must not be compressed.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refused(413, f"The body must have at most {MAX_BODY} bytes.")
    return parse(bytes(body))


def parse(body: bytes) -> Parameters:
    try:
        body.decode()
        found = msgspec.json.decode(body, type=Parameters)
    except UnicodeDecodeError as error:
        raise Refused(400, "The body is not UTF-8.") from error
    except msgspec.ValidationError as error:
        raise Refused(400, f"{error}.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, "The body is not the JSON of a GraphQL request.") from error
    if not found.query.strip():
        raise Refused(400, "There is no document to execute: `query` is empty.")
    return found


def _from_query(request: Request) -> Parameters:
    """The same from the query string, in which objects are JSON."""
    given: Mapping[str, str] = request.query_params
    if sum(map(len, given.values())) > MAX_BODY:
        raise Refused(414, f"The query must have at most {MAX_BODY} bytes.")
    wanted = {name: given[name] for name in ("query", "operationName") if name in given}
    objects = {name: given[name] for name in ("variables", "extensions") if given.get(name)}
    fields = [f'"{name}":{json.dumps(value)}' for name, value in wanted.items()]
    fields += [f'"{name}":{value}' for name, value in objects.items()]
    return parse(f"{{{','.join(fields)}}}".encode(errors="replace"))

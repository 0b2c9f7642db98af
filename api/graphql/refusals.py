"""Why a mutation did nothing: a domain error becomes the member of the result's union that stands for it."""

from enum import StrEnum
from typing import Any

import strawberry
from sqlalchemy import inspect
from strawberry import ExceptionHandler, Info
from strawberry.types.field import StrawberryField

from api.graphql import ids, node
from api.graphql.ids import UnknownId
from api.graphql.node import NodeType
from domain.core import errors


@strawberry.enum(
    description="Finer than the type of the refusal. WRONG_STATE: the object is in a state that does not"
    " allow this, such as a resolved incident."
)
class RefusalCode(StrEnum):
    INVALID_INPUT = "INVALID_INPUT"
    NOT_FOUND = "NOT_FOUND"
    WRONG_STATE = "WRONG_STATE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"


@strawberry.interface(
    name="Refusal", description="Why a mutation did nothing, in a form that a person can act on."
)
class RefusalType:
    code: RefusalCode
    message: str = strawberry.field(description="One plain sentence.")


@strawberry.type(
    description='`path` leads from `input` to the value, list indexes as digits: `["components", "0",'
    ' "status"]`.'
)
class InputProblem:
    path: list[str]
    message: str


@strawberry.type(name="InvalidInput", description="What of the input cannot be used.")
class InvalidInputType(RefusalType):
    problems: list[InputProblem]


@strawberry.type(name="NotFound", description="No object with this id exists for this principal.")
class NotFoundType(RefusalType):
    id: strawberry.ID


@strawberry.type(
    name="Conflict",
    description="The object cannot be changed so as it now stands; `subject` is the object, where the"
    " principal may see it.",
)
class ConflictType(RefusalType):
    subject: NodeType | None


class NotFoundHandler(ExceptionHandler[errors.NotFound, NotFoundType]):
    def handle(self, exception: errors.NotFound, *, field: StrawberryField, info: Info) -> NotFoundType:
        text = exception.key
        if not isinstance(exception, UnknownId):
            text = ids.encode(type(exception).__name__.removesuffix("NotFound"), text)
        return NotFoundType(code=RefusalCode.NOT_FOUND, message=str(exception), id=strawberry.ID(text))


class ConflictHandler(ExceptionHandler[errors.Conflict, ConflictType]):
    async def handle(self, exception: errors.Conflict, *, field: StrawberryField, info: Info) -> ConflictType:
        return ConflictType(
            code=RefusalCode(exception.code),
            message=str(exception),
            subject=await _as_it_is(exception.subject, info),
        )


class InvalidInputHandler(ExceptionHandler[errors.DomainError, InvalidInputType]):
    """Also for what no other member of a union stands for."""

    def handle(
        self, exception: errors.DomainError, *, field: StrawberryField, info: Info
    ) -> InvalidInputType:
        problem = InputProblem(path=list(getattr(exception, "path", ())), message=str(exception))
        return InvalidInputType(code=RefusalCode.INVALID_INPUT, message=problem.message, problems=[problem])


async def _as_it_is(subject: Any, info: Info) -> Any:
    """The row of the subject as the principal may see it: the one at hand went with its transaction."""
    identity = inspect(subject).identity if subject is not None else None
    if identity is None:
        return None
    return await node.load(info, ids.encode(type(subject).__name__, identity[0]))


HANDLERS = (NotFoundHandler(), ConflictHandler(), InvalidInputHandler())

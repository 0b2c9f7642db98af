"""The root of every refusal the domain makes on purpose; each is declared beside the model it protects."""


class DomainError(Exception):
    """A refusal that a person can act on. `code` is stable and machine-readable; the text is for people."""

    code = "INVALID_INPUT"


class NotFound(DomainError):
    """No such object exists for the one who asks."""

    code = "NOT_FOUND"

    def __init__(self, what: str, key: object) -> None:
        super().__init__(f"There is no {what} {key}.")
        self.key = str(key)


class InvalidInput(DomainError):
    """Values of an input that cannot be used; `path` leads from the input to the value."""

    code = "INVALID_INPUT"

    def __init__(self, message: str, *, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class Conflict(DomainError):
    """The object cannot be changed so as it now stands; `subject` is the object where it may be seen."""

    code = "WRONG_STATE"

    def __init__(self, message: str, *, subject: object | None = None) -> None:
        super().__init__(message)
        self.subject = subject


class IdempotencyKeyReused(Conflict):
    """The key was used before with other input."""

    code = "IDEMPOTENCY_KEY_REUSED"

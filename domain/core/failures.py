"""Work for many goes on when it fails for one; what failed is raised at last, and so is not lost."""

from collections.abc import Iterator
from contextlib import contextmanager

from domain.core.db import will_pass


class Failures:
    """What went wrong, one after the other; `message` is that of the group that is raised of them."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._found: list[Exception] = []

    @contextmanager
    def apart(self, subject: str) -> Iterator[None]:
        """Keep what fails in here for later; but what will pass by itself concerns all, and is raised."""
        try:
            yield
        except Exception as error:
            if will_pass(error):
                raise
            error.add_note(f"It happened with {subject}.")
            self._found.append(error)

    def tell(self) -> None:
        """Raise an ExceptionGroup of what failed, if anything did."""
        if self._found:
            raise ExceptionGroup(self._message, self._found)

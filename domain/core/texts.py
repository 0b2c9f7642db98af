"""What may be stored and shown as a name: one line of text that every part of the system can carry."""

import re

MAX_TEXT = 200
# Postgres takes no NUL, UTF-8 no lone surrogate.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def text_flaw(text: str, *, longest: int = MAX_TEXT) -> str | None:
    """What is wrong with a short text, as the end of a sentence; None when it is fit."""
    if not text.strip():
        return "must not be empty"
    if len(text) > longest:
        return f"must have at most {longest} characters"
    return "must not hold control characters" if _UNFIT.search(text) else None

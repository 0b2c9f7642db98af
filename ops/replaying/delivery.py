"""Sends parcels one after the other, at their pace, and explains a refusal in the lines of the file."""

from collections.abc import Iterable

from ops.replaying.pace import Pace, Progress
from ops.replaying.parcels import POINTS, Parcel
from ops.replaying.sender import Problem, Refused, Sender

_OF_CONTENT = (400, 409, 422)
_SHOWN = 5
_NO_ACCOUNT = """\
Create accounts first, with `vitals catalog apply FILE`; FILE is YAML such as
  accounts:
  - {external_id: shop, name: Shop, country: BR, currency: BRL, time_zone: America/Sao_Paulo}"""
_ADVICE = {"account": _NO_ACCOUNT, "at": "Shift the times with --as-of now."}
_NO_PARTNER = """\
Create partners first, with `vitals catalog apply FILE`; FILE is YAML such as
  partners:
  - {code: acquirer, name: Acquirer, kind: ACQUIRER}"""


class Stopped(Exception):
    """A parcel was refused and no more was sent; the text says why, by the lines of the file."""


def deliver(
    parcels: Iterable[Parcel], sender: Sender, pace: Pace, progress: Progress, *, past_refusals: bool = False
) -> None:
    """Send all of them; raises Stopped at a refusal, Unreachable when nobody answers.

    With `past_refusals` those of content are told, and the next parcel is sent.
    """
    for parcel in parcels:
        pace.wait_for(parcel.due)
        try:
            sender.send(parcel)
        except Refused as refusal:
            progress.refuse(parcel.size, at=parcel.due)
            if not past_refusals or refusal.status not in _OF_CONTENT:
                raise Stopped(_explained(refusal, parcel)) from refusal
            progress.say(_explained(refusal, parcel))
        else:
            progress.took(parcel.size, at=parcel.due)


def _explained(refusal: Refused, parcel: Parcel) -> str:
    told = [f"the server answers {refusal.status}: {refusal}"]
    told += [f"  {_place(problem, parcel)}{problem}" for problem in refusal.problems[:_SHOWN]]
    if not refusal.problems and len(parcel.lines) == 1:
        told = [f"line {parcel.lines[0]}: {told[0]}"]
    told += [_ADVICE[one.field] for one in refusal.problems[:1] if one.field in _ADVICE]
    if refusal.status == 404 and parcel.path != POINTS:
        told.append(_NO_PARTNER)
    return "\n".join(told)


def _place(problem: Problem, parcel: Parcel) -> str:
    """The file's line, where the parcel was made from a file."""
    if not 0 < problem.line <= len(parcel.lines):
        return f"line {problem.line} of the request: "
    return f"line {parcel.lines[problem.line - 1]}: "

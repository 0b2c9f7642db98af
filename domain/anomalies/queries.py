"""Finds anomalies and what the detectors think of each series; the slice's rule of who sees them."""

from sqlalchemy import ColumnElement, any_, false, true

from domain.access.models import PrincipalKind
from domain.anomalies.models import Anomaly, Watch
from domain.core.visibility import ACCOUNT_IDS


def visible(kind: PrincipalKind) -> ColumnElement[bool]:
    """Operators see all anomalies, merchants those of their accounts, others none."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Anomaly.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


def visible_watches(kind: PrincipalKind) -> ColumnElement[bool]:
    """Who sees an account's series sees what phase they are in."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Watch.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()

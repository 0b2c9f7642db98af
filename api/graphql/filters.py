"""What narrows and orders lists: fields are joined by AND, and an empty list of values matches nothing."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import strawberry
from strawberry import ID

from api.graphql import ids
from domain.catalog.models import ComponentStatus, PartnerKind
from domain.core.errors import InvalidInput
from domain.incidents import queries as incidents
from domain.incidents.models import HealthKind, Impact, IncidentStatus, Origin, Severity
from domain.insights import queries as insights
from domain.insights.models import InsightKind, InsightStatus

MOST_WORDS = 10


@strawberry.enum(description="Which end comes first.")
class OrderDirection(StrEnum):
    ASC = "ASC"
    DESC = "DESC"


@strawberry.input(description="`until` null means now.")
class TimeInterval:
    from_: datetime = strawberry.field(name="from")
    until: datetime | None = None


@strawberry.input(one_of=True, description="A stretch of time: exactly one field.")
class TimeRange:
    last: timedelta | None = strawberry.field(
        default=strawberry.UNSET, description="Back from now, such as `P1D`."
    )
    between: TimeInterval | None = strawberry.UNSET

    def bounds(self, now: datetime) -> tuple[datetime, datetime]:
        """From (inclusive) and until (exclusive); InvalidInput where it holds no time."""
        if self.between:
            start, until = self.between.from_, self.between.until or now
        else:
            start, until = _before(now, self.last or timedelta()), now
        if start >= until:
            raise InvalidInput("The range must begin before it ends.", path=("range",))
        return start, until


def _before(now: datetime, length: timedelta) -> datetime:
    try:
        return now - length
    except OverflowError as error:
        raise InvalidInput("The range reaches back too far.", path=("last",)) from error


@strawberry.input(description="`search` matches the start of a name or external id.")
class AccountFilter:
    search: str | None = None
    external_ids: list[str] | None = None
    countries: list[str] | None = None
    parent_id: ID | None = None


@strawberry.enum(description="What accounts can be ordered by.")
class AccountOrderField(StrEnum):
    NAME = "NAME"
    CREATED_AT = "CREATED_AT"


@strawberry.input(description="How accounts are ordered.")
class AccountOrder:
    field: AccountOrderField = AccountOrderField.NAME
    direction: OrderDirection = OrderDirection.ASC


@strawberry.input(
    description="`search` matches the start of a name or code. `kinds` applies to partners; services have"
    " none."
)
class ComponentFilter:
    search: str | None = None
    codes: list[str] | None = None
    statuses: list[ComponentStatus] | None = None
    kinds: list[PartnerKind] | None = None


@strawberry.enum(description="How a label is compared.")
class MatchOperator(StrEnum):
    IN = "IN"
    NOT_IN = "NOT_IN"


@strawberry.input(
    name="LabelMatcherInput",
    description="Selects by label: IN one of `values`, or NOT_IN any of them; a series without the label"
    " is NOT_IN.",
)
class LabelMatcher:
    key: str
    values: list[str]
    operator: MatchOperator = MatchOperator.IN


@strawberry.input(description="Which series.")
class SeriesFilter:
    account_ids: list[ID] | None = None
    metrics: list[str] | None = None
    labels: list[LabelMatcher] | None = strawberry.field(default=None, description="All must match.")
    dimensions: list[str] | None = strawberry.field(
        default=None,
        description='Series that fix exactly these labels: [] gives totals, ["issuer"] one for each'
        " issuer. Null: all.",
    )


@strawberry.input(description="Which incidents.")
class IncidentFilter:
    is_open: bool | None = strawberry.field(default=None, description="true: not resolved or completed.")
    statuses: list[IncidentStatus] | None = None
    kinds: list[HealthKind] | None = None
    impacts: list[Impact] | None = None
    severities: list[Severity] | None = None
    origins: list[Origin] | None = None
    account_ids: list[ID] | None = None
    component_ids: list[ID] | None = strawberry.field(default=None, description="Services and partners.")
    grouping_keys: list[str] | None = None
    during: TimeRange | None = strawberry.field(
        default=None, description="Incidents that were open at some time in it."
    )
    search: str | None = strawberry.field(
        default=None, description="Words, at most 10, each in title, summary or updates."
    )

    def wanted(self, now: datetime) -> incidents.IncidentFilter:
        """The same for the domain. Ids that name nothing match nothing."""
        if len((self.search or "").split()) > MOST_WORDS:
            raise InvalidInput(f"`search` takes at most {MOST_WORDS} words.", path=("filter", "search"))
        return incidents.IncidentFilter(
            is_open=self.is_open,
            statuses=self.statuses,
            kinds=self.kinds,
            impacts=self.impacts,
            severities=self.severities,
            origins=self.origins,
            account_ids=_keys(self.account_ids, "Account"),
            component_ids=_keys(self.component_ids, "Service", "Partner"),
            grouping_keys=self.grouping_keys,
            during=self.during.bounds(now) if self.during else None,
            search=self.search,
        )


def _keys(texts: list[ID] | None, *kinds: str) -> list[UUID] | None:
    return None if texts is None else [key for found in ids.keys(texts, *kinds).values() for key in found]


@strawberry.enum(description="What incidents can be ordered by.")
class IncidentOrderField(StrEnum):
    STARTED_AT = "STARTED_AT"
    UPDATED_AT = "UPDATED_AT"
    IMPACT = "IMPACT"


@strawberry.input(description="How incidents are ordered.")
class IncidentOrder:
    field: IncidentOrderField = IncidentOrderField.STARTED_AT
    direction: OrderDirection = OrderDirection.DESC


@strawberry.input(description="Which insights.")
class InsightFilter:
    statuses: list[InsightStatus] | None = None
    kinds: list[InsightKind] | None = None
    severities: list[Severity] | None = None
    account_ids: list[ID] | None = None
    component_ids: list[ID] | None = strawberry.field(default=None, description="Services and partners.")
    created: TimeRange | None = None

    def wanted(self, now: datetime) -> insights.InsightFilter:
        """The same for the domain."""
        return insights.InsightFilter(
            statuses=self.statuses,
            kinds=self.kinds,
            severities=self.severities,
            account_ids=_keys(self.account_ids, "Account"),
            component_ids=_keys(self.component_ids, "Service", "Partner"),
            created=self.created.bounds(now) if self.created else None,
        )


@strawberry.enum(
    description="What insights can be ordered by. RANK: loss against the account's turnover, confidence"
    " and freshness."
)
class InsightOrderField(StrEnum):
    RANK = "RANK"
    CREATED_AT = "CREATED_AT"


@strawberry.input(description="How insights are ordered.")
class InsightOrder:
    field: InsightOrderField = InsightOrderField.RANK
    direction: OrderDirection = OrderDirection.DESC

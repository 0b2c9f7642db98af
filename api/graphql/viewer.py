"""The principal of a request, as it is told about itself."""

from collections.abc import Sequence

import strawberry

from api.graphql.access import Access
from api.graphql.catalog import AccountType, PartnerType
from api.graphql.consumers import StreamConsumerType, of_viewer
from api.graphql.context import Info
from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.catalog.models import Account, Partner
from domain.delivery.models import StreamConsumer


@strawberry.type(
    name="Viewer",
    description="The principal of this request. Not a Node: it is the same field for everyone.",
)
class ViewerType:
    kind: PrincipalKind
    name: str = strawberry.field(description="Name of the key.")

    @strawberry.field(description="Such as `incidents:read`, by name.")
    def scopes(root: strawberry.Parent[Principal]) -> list[str]:
        return sorted(root.scopes)

    @strawberry.field(
        graphql_type=AccountType | None, description="The merchant's account; null for other kinds."
    )
    async def account(root: strawberry.Parent[Principal], info: Info) -> Account | None:
        return await info.context.loaders.accounts.load(root.account_id) if root.account_id else None

    @strawberry.field(
        graphql_type=list[StreamConsumerType],
        extensions=[Access("incidents:read")],
        description="Named readers of this principal's stream of incident events, by name, at most 100.",
    )
    async def consumers(root: strawberry.Parent[Principal], info: Info) -> Sequence[StreamConsumer]:
        return await of_viewer(info)

    @strawberry.field(graphql_type=PartnerType | None, description="The partner; null for other kinds.")
    async def partner(root: strawberry.Parent[Principal], info: Info) -> Partner | None:
        return await info.context.loaders.partners.load(root.partner_id) if root.partner_id else None


@strawberry.type
class ViewerQuery:
    @strawberry.field(
        graphql_type=ViewerType,
        description="Who is asking, with which rights. The first request of any client: `viewer { account"
        " { … } }` needs no id.",
    )
    def viewer(self, info: Info) -> Principal:
        return info.context.principal

"""Who or what acted."""

import strawberry

from domain.incidents.models import ActorKind


@strawberry.type(name="Actor", description="Who or what acted.")
class ActorType:
    kind: ActorKind
    name: str

"""The GraphQL door. The domain's enums are given their published names before any type refers to one."""

from api.graphql import enums as enums

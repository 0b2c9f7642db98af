"""The tree of accounts as row security asks it: every account with each of its ancestors and itself."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_BELOW = """
    below AS (
      SELECT unnest(CAST(:moved AS uuid[])) AS id
      UNION SELECT a.id FROM accounts a JOIN below b ON a.parent_id = b.id
    )
"""
_FORGET = text(f"""
    WITH RECURSIVE {_BELOW}
    DELETE FROM account_tree t USING below b WHERE t.account_id = b.id
""")
_GROW = text(f"""
    INSERT INTO account_tree (ancestor_id, account_id)
    WITH RECURSIVE {_BELOW}, above AS (
      SELECT id AS account_id, id AS ancestor_id FROM below
      UNION SELECT u.account_id, a.parent_id FROM above u JOIN accounts a ON a.id = u.ancestor_id
            WHERE a.parent_id IS NOT NULL
    )
    SELECT ancestor_id, account_id FROM above
""")


async def regrow(session: AsyncSession, moved: Sequence[UUID]) -> None:
    """Make the tree right for accounts that are new or have another parent, and for all below them."""
    if moved:
        for statement in (_FORGET, _GROW):
            await session.execute(statement, {"moved": list(moved)})


def lineage(external_id: str, parents: Mapping[str, str | None]) -> list[str]:
    """The account and its ancestors, upwards; where they form a cycle, the last is one it already holds."""
    line = [external_id]
    while (parent := parents.get(line[-1])) is not None:
        line.append(parent)
        if parent in line[:-1]:
            break
    return line

"""What a document may ask at most, before it is validated; fragments count each time they are spread."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
)
from strawberry.extensions import SchemaExtension

from api.graphql.errors import BadInput

MAX_TOKENS = 5_000
MAX_DEPTH = 16
MAX_FIELDS = 2_000
MAX_ALIASES = 100
MAX_ROOT_FIELDS = 50
MAX_DIRECTIVES = 100
MAX_OPERATIONS = 10


@dataclass(frozen=True)
class Size:
    """Of a selection, with all fragments in place."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0

    def beside(self, other: "Size") -> "Size":
        return Size(
            max(self.depth, other.depth),
            self.fields + other.fields,
            self.aliases + other.aliases,
            self.directives + other.directives,
        )


class Measure:
    """Sizes of selections of one document; each fragment is measured once, however often it is spread."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._measured: dict[str, Size] = {}

    def of(self, selections: SelectionSetNode | None) -> Size:
        sizes = (self._one(node) for node in (selections.selections if selections else ()))
        return reduce(Size.beside, sizes, Size())

    def _one(self, node: SelectionNode) -> Size:
        own = Size(directives=len(node.directives or ()))
        if isinstance(node, FragmentSpreadNode):
            return own.beside(self._fragment(node.name.value))
        within = self.of(getattr(node, "selection_set", None))
        if not isinstance(node, FieldNode):
            return own.beside(within)
        deeper = Size(within.depth + 1, within.fields + 1, within.aliases, within.directives)
        return own.beside(deeper).beside(Size(aliases=1 if node.alias else 0))

    def _fragment(self, name: str) -> Size:
        if name not in self._measured:
            # A fragment that spreads itself is refused by validation; here it must only not go round.
            self._measured[name] = Size()
            node = self._fragments.get(name)
            self._measured[name] = self.of(node.selection_set) if node else Size()
        return self._measured[name]


def excess(document: DocumentNode) -> GraphQLError | None:
    """The first limit that the document exceeds."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    measure = Measure(document)
    size = reduce(Size.beside, (measure.of(node.selection_set) for node in operations), Size())
    roots = max((len(node.selection_set.selections) for node in operations), default=0)
    for what, count, most in (
        ("operations", len(operations), MAX_OPERATIONS),
        ("levels", size.depth, MAX_DEPTH),
        ("fields", size.fields, MAX_FIELDS),
        ("root fields", roots, MAX_ROOT_FIELDS),
        ("aliases", size.aliases, MAX_ALIASES),
        ("directives", size.directives, MAX_DIRECTIVES),
    ):
        if count > most:
            return BadInput(f"The document has more than {most} {what}.")
    return None


class Limits(SchemaExtension):
    """Refuses a document that is too large, before the cost of validating it arises."""

    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options["max_tokens"] = MAX_TOKENS
        yield

    def on_validate(self) -> Iterator[None]:
        document = self.execution_context.graphql_document
        error = excess(document) if document else None
        if error is None and document is not None and self._is_ambiguous(document):
            error = BadInput("The document has several operations: name one.")
        if error is not None:
            self.execution_context.pre_execution_errors = [error]
        yield

    def _is_ambiguous(self, document: DocumentNode) -> bool:
        """Strawberry would take the first; its public `operation_name` does not tell who named it."""
        operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        return len(operations) > 1 and self.execution_context._provided_operation_name is None

"""JSON is read as protobuf is: the same requests give the same rows, sketches and refusals."""

from random import Random

from google.protobuf.json_format import MessageToJson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.telemetry.points import MalformedRequest
from tests.domain.otlp_messages import Maker
from tests.domain.otlp_requests import DECODER, NOW, OLDEST, SLOTS, content

_TOO_LARGE = "Expected `int` <= 9223372036854775807"


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), is_full=st.booleans(), by_number=st.booleans())
def test_a_request_gives_the_same_by_json_and_by_protobuf(seed: int, is_full: bool, by_number: bool) -> None:
    request = Maker(Random(seed), hostility=25).request()
    text = MessageToJson(
        request, always_print_fields_with_no_presence=is_full, use_integers_for_enums=by_number
    )

    by_wire = DECODER.protobuf(request.SerializeToString(), at=NOW, oldest=OLDEST)
    try:
        by_text = DECODER.json(text.encode(), at=NOW, oldest=OLDEST)
    except MalformedRequest as error:
        assert _TOO_LARGE in str(error)  # noqa: PT017
        assume(False)

    # As text, in which not-a-number is like itself.
    assert str(content(by_text, SLOTS)) == str(content(by_wire, SLOTS))

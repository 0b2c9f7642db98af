"""The Collector's example files, merged and filled in as the Collector does it; its requests are taken."""

import gzip
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.http.bodies import MOST_BYTES
from domain.access.models import PrincipalKind
from domain.core.db import Database
from tests import make
from tests.api import test_ingest, test_traces
from tests.api.conftest import Api

EXAMPLE = Path(__file__).parents[2] / "examples" / "otel-collector"
_VARIABLE = re.compile(r"\$\{env:(\w+)(?::-([^}]*))?\}")


def merged(below: Any, above: Any) -> Any:
    """Maps are merged, and all else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def filled_in(value: Any, environment: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled_in(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [filled_in(one, environment) for one in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: environment.get(found[1], found[2]), value)
    return value


def config(*names: str, **environment: str) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for name in names:
        whole = merged(whole, yaml.safe_load((EXAMPLE / name).read_text()))
    filled: dict[str, Any] = filled_in(whole, {"VITALS_ACCOUNT": "", "VITALS_KEY": "", **environment})
    return filled


@pytest.mark.parametrize("names", [("config.yaml",), ("config.yaml", "platform.yaml")])
def test_pipelines_are_made_of_what_is_configured(names: tuple[str, ...]) -> None:
    found = config(*names)
    assert set(found["service"]["pipelines"]) == {"metrics", "traces"}
    for pipeline in found["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(found[kind])
        assert pipeline["processors"][0] == "memory_limiter"


def test_one_account_is_told_of_and_a_platform_tells_itself() -> None:
    one = config("config.yaml", VITALS_ACCOUNT="shop-1")
    [told] = one["processors"]["resource/account"]["attributes"]
    assert told == {"key": "vitals.account", "value": "shop-1", "action": "insert"}
    assert all("resource/account" in line["processors"] for line in one["service"]["pipelines"].values())
    many = config("config.yaml", "platform.yaml")["service"]["pipelines"]
    assert many["metrics"]["processors"] == ["memory_limiter", "filter/placed"]
    assert many["traces"]["processors"] == ["memory_limiter", "filter/served", "filter/placed"]


def test_batches_are_smaller_than_a_body_may_be_and_nothing_is_given_up() -> None:
    exporter = config("config.yaml")["exporters"]["otlp_http/vitals"]
    queue = exporter["sending_queue"]
    assert queue["batch"]["min_size"] <= queue["batch"]["max_size"] < MOST_BYTES
    assert (queue["sizer"], exporter["encoding"], exporter["compression"]) == ("bytes", "proto", "gzip")
    assert (exporter["retry_on_failure"]["enabled"], exporter["retry_on_failure"]["max_elapsed_time"]) == (
        (True, "0s")
    )


async def test_requests_as_the_collector_sends_them_are_taken(
    api: Api, http: httpx.AsyncClient, db: Database
) -> None:
    key = await make.key(db, kind=PrincipalKind.INGEST)
    exporter = config("config.yaml", VITALS_KEY=key, VITALS_URL=api.url)["exporters"]["otlp_http/vitals"]
    sent = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", **exporter["headers"]}
    name = (await make.account(db)).external_id
    for signal, request in (("metrics", test_ingest.otlp(name)), ("traces", test_traces.request(name))):
        url, body = f"{exporter['endpoint']}/v1/{signal}", gzip.compress(request.SerializeToString())
        reply = await http.post(url, content=body, headers=sent)
        assert (reply.status_code, reply.content) == (200, b"")
    assert config("config.yaml")["exporters"]["otlp_http/vitals"]["endpoint"] == "http://127.0.0.1:8000"

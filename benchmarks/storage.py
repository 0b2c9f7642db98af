"""How many bytes a point takes, and how fast points are read back and rolled up: `-m benchmarks.storage`.

Each data set (see `benchmarks.datasets`) is taken in as NDJSON by the product's own code in this process, in
a database of its own, then folded, rolled up and packed.

- `bytes_per_point`: all that `chunks` takes, indexes and TOAST included, after its days were packed, by the
  points that were sent. `minutes_bytes_per_point` is that of the minutes before, with what updates left dead
  in them; `rollups_bytes_per_point` that of five minutes, hours and days together.
- `read_ratio`: how many times faster 8 series × 288 times of a packed day are read by the product's reading
  function than from narrow rows; see `benchmarks.narrow`. `read_ratio_minutes` is the same where no rollup
  may be read, `read_ratio_chunks` a query of the chunks and no more. The series are the fullest of the day;
  medians of alternating repetitions over random ones of one account.
- `rollup_100k_s` and others: see `benchmarks.rolling`.

`--data` names the folder of real data; without it there is no `aiops`.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks import datasets, narrow, rolling
from benchmarks.datasets import DataSet
from benchmarks.filling import LATER, filled
from benchmarks.installation import server
from ops.embedded.postgres import Postgres

_MINUTES = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('minutes') WHERE isleaf"
_NAMES = ("simulated", "aiops", "five_points_a_day")
_DATA = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--data", type=_DATA, envvar="VITALS_TEST_DATA", help="The folder of real data.")
@click.option("--only", type=click.Choice([*_NAMES, "rolling"]), help="Measure this alone.")
def main(data: Path | None, only: str | None) -> None:
    """Measure how points are stored."""
    figures: dict[str, object] = {}
    with server() as postgres:
        for one in _sets(data):
            if only in (None, one.name):
                figures[one.name] = asyncio.run(_store(postgres, one))
                print(one.name, json.dumps(figures[one.name]))
        if only in (None, "rolling"):
            figures |= asyncio.run(_roll(postgres))
    print(json.dumps(figures))


def _sets(data: Path | None) -> Iterator[DataSet]:
    yield datasets.simulated()
    if data is not None:
        yield datasets.aiops(data)
    yield datasets.five_points_a_day()


async def _store(postgres: Postgres, one: DataSet) -> dict[str, float]:
    async with filled(postgres, one.name) as place:
        await place.apply(one.accounts)
        points = await place.take(one.bodies())
        at = one.day + LATER + LATER
        await place.roll_up(at)
        minutes = await _size(postgres, one.name, _MINUTES)
        await place.pack(at)
        await _require_packed(postgres, one.name)
        return {
            "points": points,
            "series": await _size(postgres, one.name, "SELECT count(*) FROM series WHERE is_measured"),
            "bytes_per_point": round(await _relation(postgres, one.name, "chunks") / points, 3),
            "minutes_bytes_per_point": round(minutes / points, 3),
            "rollups_bytes_per_point": round(await _relation(postgres, one.name, "rollups") / points, 3),
            **await narrow.compare(place, postgres.url(database=one.name), one.day),
        }


async def _require_packed(postgres: Postgres, name: str) -> None:
    left = await _size(postgres, name, "SELECT count(*) FROM minutes")
    left += await _size(postgres, name, "SELECT count(*) FROM shard_days WHERE NOT is_packed")
    if left:
        raise click.ClickException(f"{name}: some days were not packed.")


async def _relation(postgres: Postgres, name: str, table: str) -> int:
    return await _size(postgres, name, f"SELECT pg_total_relation_size('{table}')")


async def _size(postgres: Postgres, name: str, question: str) -> int:
    return int(await postgres.ask(question, database=name))


async def _roll(postgres: Postgres) -> dict[str, float | None]:
    async with filled(postgres, "rolling") as place:
        return await rolling.measure(place)


if __name__ == "__main__":
    main()

"""Prophet in the account's local time: cycles of day and week, trend and public holidays.

Prophet refuses aware times, so the hours are local and naive here: the hour that clocks repeat stands
twice in the history, the one they skip nowhere. Importing Prophet takes seconds: only `load` does.
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DAILY_ORDER, WEEKLY_ORDER = 6, 4
# From here a week has a cycle and weekends a day of their own; from here the level has a trend.
WEEKLY_HOURS, TREND_HOURS = 14 * 24, 21 * 24
CHANGEPOINTS, CHANGEPOINT_PRIOR = 5, 0.02
# Hours further from the like of them than so many deviations are drawn in; how many days around are like.
WILD, AROUND_DAYS = 4.0, 7


class FitFailed(Exception):
    """The optimizer found no fit."""


@dataclass(frozen=True)
class Fit:
    """On the scale of what was fitted: the middle of the hours of the history, and of those ahead."""

    known: FloatArray
    ahead: FloatArray
    parameters: int
    settings: dict[str, Any]
    remarks: list[str]


def load() -> Any:
    """The class Prophet with its optimizer (which it imports only when it is used), quiet about progress."""
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)
    import cmdstanpy  # noqa: F401 (see above)
    from prophet import Prophet

    for name in ("prophet", "cmdstanpy"):  # a fit that fails is told to us as an exception
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return Prophet


def keep_files_in_temporary_place() -> None:
    """Let Stan make its files in the present `tempfile.gettempdir()`, not in that of the import."""
    for name, module in list(sys.modules.items()):
        if name.startswith("cmdstanpy") and hasattr(module, "_TMPDIR"):
            setattr(module, "_TMPDIR", tempfile.gettempdir())  # noqa: B010 (a module has no such attribute)


def fit(at: IntArray, values: FloatArray, future: IntArray, *, zone: ZoneInfo, country: str) -> Fit:
    """Fit `values` (NaN unknown) of the hours that start `at`, and predict these and the `future` ones.

    Times are Unix seconds. Raises FitFailed.
    """
    history, ahead = local(at, zone), local(future, zone)
    # Prophet sorts by time, and local time may repeat or run backwards: each local hour is asked once.
    asked, place = np.unique(np.concatenate([history, ahead]), return_inverse=True)
    long = len(at) >= WEEKLY_HOURS
    holidays, remarks = _holidays(history[np.isfinite(values)], ahead, country)
    tame = _tame(history, values, but=[day for day, _ in holidays])
    growth = "linear" if len(at) >= TREND_HOURS else "flat"
    model = _model(growth=growth, long=long, holidays=holidays)
    try:
        model.fit(_frame(history, tame, long=long), algorithm="LBFGS")
    except RuntimeError as error:
        raise FitFailed(str(error)) from error
    predicted = model.predict(_frame(asked, None, long=long))["yhat"].to_numpy()[place]
    return Fit(
        known=predicted[: len(at)],
        ahead=predicted[len(at) :],
        parameters=int(model.params["beta"].shape[1]) + (1 if growth == "flat" else 2 + CHANGEPOINTS),
        settings={
            "growth": growth,
            "weekly": long,
            "holidays": sorted({name for _, name in holidays}),
        },
        remarks=remarks,
    )


def _tame(hours: NDArray[np.datetime64], values: FloatArray, *, but: Sequence[np.datetime64]) -> FloatArray:
    """`values` drawn to within WILD usual deviations of the same hour of days like it around them.

    One afternoon's incident or one day's sale would else bend the trend. Holidays are let be.
    """
    date = hours.astype("datetime64[D]")
    day = (date - date[0]).astype(np.int64)
    table = np.full((day[-1] + 1, 24), np.nan)
    hour = (hours - date).astype("timedelta64[h]").astype(np.int64)
    table[day, hour] = values
    usual = np.full_like(table, np.nan)
    number = np.arange(len(table))
    weekend = ~np.is_busday(date[0] + number)
    for one in number:
        like = table[(np.abs(number - one) <= AROUND_DAYS) & (weekend == weekend[one])]
        if len(like) >= 3:
            known = np.isfinite(like).any(axis=0)
            usual[one, known] = np.nanmedian(like[:, known], axis=0)
    off = values - usual[day, hour]
    # The mean and not the median of their size: small counts are mostly 0, and often not.
    limit = WILD * 1.2533 * np.nanmean(np.abs(off)) if np.isfinite(off).any() else np.inf
    tamed = values - off + np.clip(off, -limit, limit)
    return np.where(np.isfinite(tamed) & ~np.isin(date, but), tamed, values)


def _model(*, growth: str, long: bool, holidays: Sequence[tuple[np.datetime64, str]]) -> Any:
    model = load()(
        growth=growth,
        n_changepoints=CHANGEPOINTS,
        changepoint_prior_scale=CHANGEPOINT_PRIOR,
        daily_seasonality=False,
        weekly_seasonality=WEEKLY_ORDER if long else False,
        yearly_seasonality=False,
        holidays=_holiday_frame(holidays),
        uncertainty_samples=0,
    )
    for kind in ("workday", "weekend") if long else (None,):
        name = f"daily_{kind}" if kind else "daily"
        model.add_seasonality(name, period=1, fourier_order=DAILY_ORDER, condition_name=kind)
    return model


def _frame(hours: NDArray[np.datetime64], values: FloatArray | None, *, long: bool) -> Any:
    import pandas

    frame = pandas.DataFrame({"ds": hours})
    if values is not None:
        frame["y"] = values
    if long:
        frame["weekend"] = frame["ds"].dt.day_of_week >= 5
        frame["workday"] = ~frame["weekend"]
    return frame


def _holiday_frame(holidays: Sequence[tuple[np.datetime64, str]]) -> Any:
    import pandas

    if not holidays:
        return None
    return pandas.DataFrame(
        {"ds": [pandas.Timestamp(day) for day, _ in holidays], "holiday": [name for _, name in holidays]}
    )


def local(at: IntArray, zone: ZoneInfo) -> NDArray[np.datetime64]:
    """The naive local time of each moment (Unix seconds)."""
    moments = [
        datetime.fromtimestamp(second, UTC).astimezone(zone).replace(tzinfo=None) for second in at.tolist()
    ]
    return np.array(moments, dtype="datetime64[s]")


def _holidays(
    known: NDArray[np.datetime64], ahead: NDArray[np.datetime64], country: str
) -> tuple[list[tuple[np.datetime64, str]], list[str]]:
    """The public holidays whose effect the history can teach, wherever they fall, and what to remark."""
    calendar = _calendar(country, np.concatenate([known, ahead]))
    if calendar is None:
        return [], [f"No calendar of public holidays is known for the country {country}."]
    days = {day: name for day, name in calendar.items() if np.isin(day, _days(known))}
    taught = [(day, name) for day, name in calendar.items() if name in days.values()]
    unseen = [
        f"A public holiday ({name}, {day}) lies ahead, and none such is in the history."
        for day, name in calendar.items()
        if name not in days.values() and np.isin(day, _days(ahead))
    ]
    return taught, unseen


def _days(hours: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    return np.unique(hours.astype("datetime64[D]"))


def _calendar(country: str, hours: NDArray[np.datetime64]) -> dict[np.datetime64, str] | None:
    import holidays

    years = sorted({int(str(year)) for year in np.unique(hours.astype("datetime64[Y]"))})
    try:
        found = holidays.country_holidays(country, years=years)
    except NotImplementedError:
        return None
    return {np.datetime64(day, "D"): str(name) for day, name in sorted(found.items())}

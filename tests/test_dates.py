"""How days may be spelled, and what other spellings are told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.dates import is_day, parse_day
from catalog_pipeline.errors import ConfigurationError


@given(st.dates(date(1970, 1, 1), date(2999, 12, 31)))
@settings(max_examples=40, derandomize=True)
def test_a_day_is_read_with_and_without_hyphens(day: date) -> None:
    assert parse_day(day.isoformat()) == day == parse_day(f"{day:%Y%m%d}")


@pytest.mark.parametrize(
    "text",
    [
        "2026-1-5",
        "2026/01/05",
        "2026.1.5",
        "5.1.2026",
        "05.01.2026",
        "2026-01-05T12:00",
        "2026-01-05 12:00+09:00",
        " 2026-01-05 ",
        "2026年1月5日",
    ],
)
def test_another_spelling_is_told_the_day_that_it_means(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"YYYY-MM-DD.*; did you mean 2026-01-05\?"):
        parse_day(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("28/11/2026", "2026-11-28"), ("11/28/2026", "2026-11-28"), ("5/5/2026", "2026-05-05")],
)
def test_a_slashed_day_is_guessed_where_it_has_one_reading(text: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean {meant}"):
        parse_day(text)


def test_yesterday_is_told_its_date() -> None:
    before = datetime.now(UTC)
    with pytest.raises(ConfigurationError) as caught:
        parse_day("Yesterday")
    days = {(now - timedelta(days=1)).date() for now in (before, datetime.now(UTC))}
    assert any(f"did you mean {day}?" in str(caught.value) for day in days)


@pytest.mark.parametrize(
    "text", ["", "5/6/2026", "2026-02-30", "2026-13-01", "2026-W05-1", "2026-01", "２０２６-01-05"]
)
def test_what_is_no_day_gets_no_guess(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a date; expected") as caught:
        parse_day(text)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("text", ["0001-01-03", "1969-12-31", "3000-01-01", "9999-12-31"])
def test_a_year_that_no_clock_shows_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a day of the years 1970 to 2999"):
        parse_day(text)


@given(st.text(max_size=30) | st.text("0123456789-./ T:", max_size=20))
@settings(max_examples=60, derandomize=True)
def test_any_text_is_a_day_or_one_line(text: str) -> None:
    problem = ""
    try:
        assert 1970 <= parse_day(text).year <= 2999
    except ConfigurationError as error:
        problem = str(error)
    assert is_day(text) == (problem == "")
    assert "\n" not in problem

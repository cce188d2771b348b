from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.defs.catalog.requests import (
    HASH_CHARS,
    MAX_ATTEMPTS,
    MAX_SKUS_PER_RUN,
    LearnRequest,
    RunState,
    WatchState,
    count_retries,
    plan_requests,
    usable_rows,
    waiting_to_learn,
)
from catalog_pipeline.records import SkuStatus
from catalog_pipeline.settings import CatalogSettings
from tests.builders import make_index_row


def row(sku: str, status: SkuStatus = SkuStatus.NEW, *, photos: int = 4):
    content = f"{sku}-hash".ljust(64, "0")
    return make_index_row(sku, status=status, photo_count=photos, content_hash=content)


def plan(
    waiting: Mapping[str, str],
    partitions: list[str],
    state: WatchState | None = None,
    runs: Mapping[str, RunState] | None = None,
    max_requests: int = 25,
    under_way: Sequence[str] = (),
) -> WatchState:
    return plan_requests(
        state or WatchState(),
        partitions=partitions,
        waiting=waiting,
        run_state=lambda run_key: (runs or {}).get(run_key, "none"),
        max_requests=max_requests,
        under_way=under_way,
    )


def test_only_live_sets_with_enough_photos_are_usable() -> None:
    rows = [
        row("ready"),
        row("gone", SkuStatus.RETIRED),
        row("few", photos=2),
        row("known", SkuStatus.LEARNED),
    ]
    assert [item.sku for item in usable_rows(rows, CatalogSettings())] == ["ready", "known"]


def test_new_and_changed_wait_but_failed_ones_do_not() -> None:
    rows = [
        row("a"),
        row("b", SkuStatus.CHANGED),
        row("c", SkuStatus.FAILED),
        row("d", SkuStatus.LEARNED),
    ]
    assert waiting_to_learn(rows) == {"a": "a-hash000000", "b": "b-hash000000"}
    assert all(len(content) == HASH_CHARS for content in waiting_to_learn(rows).values())


def test_neighbours_share_a_range_run_and_a_learned_sku_between_them_splits_it() -> None:
    state = plan({"a": "1", "b": "2", "d": "4"}, ["a", "b", "c", "d"])
    assert [list(request.skus) for request in state.requests] == [["a", "b"], ["d"]]
    assert (state.requests[0].first, state.requests[0].last) == ("a", "b")
    assert state.requests[1].run_key == "d:4:1"


def test_a_range_is_never_longer_than_one_run_may_be() -> None:
    names = [f"s{i:03}" for i in range(60)]
    state = plan(dict.fromkeys(names, "h"), names)
    assert [len(request.skus) for request in state.requests] == [MAX_SKUS_PER_RUN] * 2 + [10]


def test_a_tick_is_bounded_and_the_next_one_goes_on() -> None:
    names = [f"s{i:03}" for i in range(0, 20)]
    alternate = dict.fromkeys(names[::2], "h")
    first = plan(alternate, names, max_requests=4)
    assert len(first.requests) == 4
    done = set(names[:8:2])
    rest = {name: h for name, h in alternate.items() if name not in done}
    second = plan(rest, names, state=first, max_requests=4)
    assert [request.first for request in second.requests] == names[8:16:2]


def test_two_ticks_in_a_row_ask_under_the_same_keys() -> None:
    waiting, names = {"a": "1", "b": "2", "d": "4"}, ["a", "b", "c", "d"]
    first = plan(waiting, names)
    keys = [request.run_key for request in first.requests]
    again = plan(waiting, names)
    after = plan(waiting, names, state=WatchState.from_cursor(first.to_cursor()))
    running = plan(waiting, names, state=first, runs=dict.fromkeys(keys, "unfinished"))
    for other in (again, after, running):
        assert [request.run_key for request in other.requests] == keys


def test_a_run_under_way_keeps_its_key_while_its_skus_are_learned_one_by_one() -> None:
    first = plan({"a": "1", "b": "2", "c": "3"}, ["a", "b", "c"])
    half = plan(
        {"b": "2", "c": "3"},
        ["a", "b", "c"],
        state=first,
        runs={first.requests[0].run_key: "unfinished"},
    )
    assert half.requests == first.requests


def test_changed_photos_make_another_key() -> None:
    assert LearnRequest({"a": "1"}).run_key != LearnRequest({"a": "2"}).run_key
    first = plan({"a": "1"}, ["a"])
    second = plan({"a": "2"}, ["a"], state=first)
    assert [request.run_key for request in second.requests] == ["a:2:1"]


def test_a_run_that_died_is_asked_again_with_what_it_left_and_not_for_ever() -> None:
    names = ["a", "b", "c"]
    state = plan(dict.fromkeys(names, "h"), names)
    left = {"b": "h", "c": "h"}
    for attempt in range(2, MAX_ATTEMPTS + 1):
        finished = {request.run_key: "finished" for request in state.requests}
        state = plan(left, names, state=state, runs=finished)
        assert [list(request.skus) for request in state.requests] == [["b", "c"]]
        assert state.requests[0].attempt == attempt
    finished = {request.run_key: "finished" for request in state.requests}
    state = plan(left, names, state=state, runs=finished)
    assert state.requests == ()
    assert state.exhausted == left
    assert plan(left, names, state=state).requests == ()
    assert [r.run_key for r in plan({"b": "new"}, names, state=state).requests] == ["b:new:1"]


def test_a_lost_cursor_asks_on_under_a_fresh_key_and_never_twice() -> None:
    waiting, names = {"a": "1", "b": "2"}, ["a", "b"]
    first = plan(waiting, names)
    (key,) = (request.run_key for request in first.requests)
    # The run is under way: "a" is learned, "b" not yet.
    half = plan({"b": "2"}, names, runs={key: "unfinished"}, under_way=names)
    assert half.requests == ()
    # It has died: "b" is asked for alone, and all of it by a cursor that knew the run.
    assert [r.run_key for r in plan({"b": "2"}, names).requests] == ["b:2:1"]
    died: dict[str, RunState] = {"a:1:1": "finished", "a:1:2": "finished"}
    assert [r.run_key for r in plan({"a": "1"}, ["a"], runs=died).requests] == ["a:1:3"]


def test_content_that_returns_has_three_attempts_again_under_keys_of_its_own() -> None:
    runs: dict[str, RunState] = {}
    state, keys = WatchState(), []
    for turn in range(8):
        content = "summer" if turn % 2 else "winter"
        state = plan({"mug": content}, ["mug"], state=state, runs=runs)
        (request,) = state.requests
        assert request.attempt == 1
        keys.append(request.run_key)
        runs[request.run_key] = "finished"  # learned, so it no longer waits
        state = plan({}, ["mug"], state=state, runs=runs)
        assert state == WatchState()
    assert len(set(keys)) == 8
    assert keys[-1] == "mug:summer:4"
    for number in (5, 6, 7):  # and now its runs die
        state = plan({"mug": "summer"}, ["mug"], state=state, runs=runs)
        (request,) = state.requests
        assert request.run_key == f"mug:summer:{number}"
        runs[request.run_key] = "finished"
    state = plan({"mug": "summer"}, ["mug"], state=state, runs=runs)
    assert (state.requests, state.exhausted) == ((), {"mug": "summer"})
    state = plan({"mug": "winter"}, ["mug"], state=state, runs=runs)
    assert state.exhausted == {}
    state = plan({"mug": "summer"}, ["mug"], state=state, runs=runs)
    assert [request.run_key for request in state.requests] == ["mug:summer:8"]


def test_a_cursor_of_an_earlier_release_goes_on_and_forgets_whom_it_gave_up() -> None:
    cursor = (
        '{"requests": [{"skus": {"a": "1", "b": "2"}, "attempt": 2}], "exhausted": {"mug": "h"}}'
    )
    state = WatchState.from_cursor(cursor)
    assert state == WatchState((LearnRequest({"a": "1", "b": "2"}, attempt=2, number=2),))
    runs: dict[str, RunState] = dict.fromkeys(("mug:h:1", "mug:h:2", "mug:h:3"), "finished")
    after = plan({"a": "1", "b": "2", "mug": "h"}, ["a", "b", "mug"], state=state, runs=runs)
    assert after.requests[0] == state.requests[0]
    assert [request.run_key for request in after.requests[1:]] == ["mug:h:4"]


def test_retries_count_from_the_last_time_that_the_watcher_asked() -> None:
    newest_first = [
        (["mug"], "mug:b"),
        (["jug"], "jug:a"),
        (["jar", "mug"], ""),
        (["mug"], "mug:a"),
        (["jug"], "jug:a"),
        (["jug", "jar"], ""),
        (["jar"], "jar:a"),
    ]
    assert count_retries(newest_first) == {"mug:b": 1, "jug:a": 2}


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.sampled_from(["a", "b", "learned", "died", "lost cursor"]), max_size=40))
def test_whatever_happens_a_waiting_sku_is_asked_for_until_it_is_given_up(
    events: list[str],
) -> None:
    """One SKU whose photos are changed, learned, killed, and whose watcher forgets."""
    runs: dict[str, RunState] = {}
    learned, present, state = "", "a", WatchState()
    for event in [*events, "learned"]:
        if event in ("a", "b"):
            present = event
        waiting = {} if present == learned else {"sku": present}
        state = plan(waiting, ["sku"], state=state, runs=runs)
        assert plan(waiting, ["sku"], state=state, runs=runs) == state
        assert bool(state.requests) == bool(waiting and "sku" not in state.exhausted)
        for request in state.requests:
            assert runs.setdefault(request.run_key, "unfinished") == "unfinished"
            assert request.attempt <= MAX_ATTEMPTS
            if event in ("learned", "died"):
                runs[request.run_key] = "finished"
            if event == "learned":
                learned = present
        if event == "lost cursor":
            state = WatchState()


@pytest.mark.parametrize("cursor", [None, ""])
def test_no_cursor_is_an_empty_state(cursor: str | None) -> None:
    assert WatchState.from_cursor(cursor) == WatchState()


@given(
    st.lists(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True), unique=True, max_size=80
    ),
    st.data(),
)
def test_every_waiting_sku_is_asked_exactly_once_and_no_other(
    names: list[str], data: st.DataObject
) -> None:
    chosen = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()))
    waiting = {name: f"{name}-h" for name in chosen}
    state = plan(waiting, names, max_requests=1000)
    asked = [sku for request in state.requests for sku in request.skus]
    assert sorted(asked) == sorted(chosen)
    for request in state.requests:
        start, end = names.index(request.first), names.index(request.last)
        assert names[start : end + 1] == list(request.skus)
    assert WatchState.from_cursor(state.to_cursor()) == state

"""What people write in YAML and in JSON: text, absent values, keys given twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_pipeline.plain_text import MAX_NODES, read_json, read_yaml, without_absent

PARSERS = pytest.mark.parametrize("read", [read_yaml, read_json])
WORDS = st.text("abcdefgh", min_size=1, max_size=5)
CONTENT = st.recursive(
    st.none() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS.filter(str.isascii), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_what_is_typed_is_what_is_read() -> None:
    typed = "a: 00123\nb: no\nc: 1e3\nd: 2026-01-02\ne: 0x1F\nf: 1:30\nno: True\n"
    assert read_yaml(typed) == {
        "a": "00123",
        "b": "no",
        "c": "1e3",
        "d": "2026-01-02",
        "e": "0x1F",
        "f": "1:30",
        "no": "True",
    }
    assert read_json('{"a": 1.50, "b": true, "c": [12345678901234567890123, 1e3, NaN]}') == {
        "a": "1.50",
        "b": "true",
        "c": ["12345678901234567890123", "1e3", "NaN"],
    }


@pytest.mark.parametrize("text", ["a:", "a: ~", "a: null", "a: Null", "a: NULL", "{a: }"])
def test_an_absent_value_is_none_and_its_key_can_be_dropped(text: str) -> None:
    assert read_yaml(text) == {"a": None} == read_json('{"a": null}')
    assert without_absent(read_yaml(text)) == {}


def test_a_quoted_null_is_text_and_an_item_of_a_list_stays() -> None:
    assert read_yaml("a: \"null\"\nb: '~'\nc: nullable\nd: [~, x]") == {
        "a": "null",
        "b": "~",
        "c": "nullable",
        "d": [None, "x"],
    }
    assert without_absent({"a": [None, {"b": None}]}) == {"a": [None, {}]}


@pytest.mark.parametrize(
    ("read", "text", "lines"),
    [
        (read_yaml, "a: 1\nb: 2\na: 3\n", "lines 1 and 3"),
        (read_yaml, "x: {a: 1, 'a': 2}", "line 1"),
        (read_yaml, "- {b: 1,\n   b: 1}", "lines 1 and 2"),
        (read_json, '{"a": 1,\n "b": 2,\n "a": 3}', "lines 1 and 3"),
        (read_json, '{"x": [{"a": 1, "a": 2}]}', "line 1"),
        (read_json, '{"a": 1, "\\u0061": 2}', "line 1"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_lines(read: Any, text: str, lines: str) -> None:
    with pytest.raises(ValueError, match=rf"the key '[ab]' is given twice \(on {lines}\)"):
        read(text)


def test_merged_keys_are_overridden_and_not_given_twice() -> None:
    assert read_yaml("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}") == {
        "x": {"a": "1", "b": "2"},
        "y": {"a": "3", "b": "2"},
    }


def test_aliases_that_stand_for_billions_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    for text in ("\n".join(lines), "&a [*a]", "&a {b: *a}"):
        with pytest.raises(ValueError, match=f"more than {MAX_NODES:,} values"):
            read_yaml(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "a: !!timestamp x", "a: !!int ''", "!!binary x", "? [a]\n: b", "a: b: c", "*a"],
)
def test_what_is_no_plain_yaml_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_yaml(text)
    assert "\n" not in str(caught.value)


@given(CONTENT)
@settings(max_examples=60, derandomize=True)
def test_both_formats_say_the_same(content: Any) -> None:
    assert read_yaml(yaml.safe_dump(content)) == content == read_json(json.dumps(content))
    assert read_yaml(json.dumps(content)) == content


@PARSERS
@given(text=st.text(max_size=60) | st.text("{}[]:,&*!?|>-~\"'#%@ \n\tab0", max_size=40))
@settings(max_examples=60, derandomize=True)
def test_any_text_is_a_value_or_one_line(read: Any, text: str) -> None:
    problem = "none"
    try:
        read(text)
    except ValueError as error:
        problem = str(error)
    assert len(problem.splitlines()) == 1

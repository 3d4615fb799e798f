"""Options: what a table may say, and that the published schema and the parser agree about it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labous.options import Refused, option, parse, schema


@dataclasses.dataclass(frozen=True)
class Everything:
    """All types that
    there are.

    And a paragraph that is nobody's business.
    """

    needed: str = option("a name", pattern="[a-z]{1,5}")
    flag: bool = option("whether", False)
    count: int = option("how many", 3, minimum=1, maximum=9)
    share: float = option("of it", 0.5, above=0, maximum=1)
    either: str = option("one of them", "this", choices=("this", "that"))
    maybe: float | None = option("perhaps", None)
    names: tuple[str, ...] = option("some", ("a",), least=1)
    sizes: tuple[int, ...] = option("sizes", (), minimum=1)
    limits: dict[str, float] | None = option("by name", None, minimum=0, maximum=1)  # noqa: RUF009


@dataclasses.dataclass(frozen=True)
class Stranger:
    """Of a package whose author has not read labous.options."""

    needed: int
    gain: float = 1.0
    names: list[str] = dataclasses.field(default_factory=list)


def test_a_field_that_is_no_option_is_a_sentence() -> None:
    for table, key, told in (({}, "needed", "is missing."), ({"gain": 2.0}, "gain", "is no option, as the class")):
        with pytest.raises(Refused, match=told) as caught:
            parse(Stranger, table)
        assert caught.value.key == key


@pytest.mark.parametrize(
    ("table", "key", "told"),
    [
        ({}, "needed", "is missing: a name."),
        ({"needed": "a", "ned": 1}, "ned", "is not known here; known are needed, flag"),
        ({"needed": 3}, "needed", "is 3; it must be text."),
        ({"needed": "ABC"}, "needed", "is 'ABC'; it must be a name."),
        ({"needed": "abc\n"}, "needed", r"is 'abc\n'; it must be a name."),
        ({"needed": "a", "flag": 1}, "flag", "is 1; it must be true or false."),
        ({"needed": "a", "count": True}, "count", "is True; it must be a whole number."),
        ({"needed": "a", "count": 1.5}, "count", "is 1.5; it must be a whole number."),
        ({"needed": "a", "count": 10}, "count", "is 10; it must be at most 9: how many."),
        ({"needed": "a", "share": 0}, "share", "is 0; it must be above 0: of it."),
        ({"needed": "a", "share": math.nan}, "share", "is nan; it must be finite: of it."),
        ({"needed": "a", "maybe": -math.inf}, "maybe", "is -inf; it must be finite: perhaps."),
        ({"needed": "a", "either": "other"}, "either", "is 'other'; choose one of this, that."),
        ({"needed": "a", "names": "b"}, "names", "is 'b'; it must be an array."),
        ({"needed": "a", "names": []}, "names", "has 0 values; give at least 1: some."),
        ({"needed": "a", "names": ["b", 1]}, "names[1]", "is 1; it must be text."),
        ({"needed": "a", "sizes": [1, 0]}, "sizes[1]", "is 0; it must be at least 1: sizes."),
        ({"needed": "a", "limits": [1]}, "limits", "is [1]; it must be a table."),
        ({"needed": "a", "limits": {"wren": 2}}, "limits.wren", "is 2; it must be at most 1: by name."),
    ],
)
def test_what_cannot_be_is_told_with_its_key(table: dict[str, Any], key: str, told: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(Everything, table)
    assert refused.value.key == key
    assert str(refused.value).startswith(told)
    # nan and the infinities are no values of JSON, and its validators differ about them
    if all(math.isfinite(value) for value in table.values() if isinstance(value, float)):
        assert not jsonschema.Draft202012Validator(schema(Everything)).is_valid(table)


def test_what_is_left_out_has_its_default_and_numbers_their_type() -> None:
    assert parse(Everything, {"needed": "a"}) == Everything("a")
    found = parse(Everything, {"needed": "a", "share": 1, "names": ["x", "y"], "limits": {"wren": 1}})
    assert found == Everything("a", share=1.0, names=("x", "y"), limits={"wren": 1.0})
    assert isinstance(found.share, float)


def test_the_schema_is_one_and_says_what_the_class_says() -> None:
    found = schema(Everything)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["description"] == "All types that there are."
    assert found["required"] == ["needed"]
    assert found["properties"]["share"] == {
        "description": "of it", "type": "number", "maximum": 1, "exclusiveMinimum": 0, "default": 0.5,
    }  # fmt: skip
    assert found["properties"]["names"]["default"] == ["a"]
    assert "default" not in found["properties"]["maybe"]


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-12, 12),
    # 3.0 is whole for JSON, and a float for TOML, which the parser goes by
    st.floats(-2, 12, allow_nan=False).filter(lambda value: not value.is_integer()),
    st.sampled_from(["", "a", "abc", "abc\n", "abcdef", "this", "that", "é"]),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.sampled_from(["wren", "a.b", ""]), SCALARS, max_size=2)
)
LIKELY = {
    "needed": st.sampled_from(["a", "abc"]),
    "flag": st.booleans(),
    "count": st.integers(0, 10),
    "share": st.sampled_from([0, 0.5, 1, 1.5]),
    "either": st.sampled_from(["this", "that", "other"]),
    "maybe": SCALARS,
    "names": st.lists(st.sampled_from(["", "a"]), max_size=2),
    "sizes": st.lists(st.integers(0, 2), max_size=2),
    "limits": st.dictionaries(st.sampled_from(["wren", "a.b"]), st.sampled_from([0, 0.5, 1, 2]), max_size=2),
    "unknown": SCALARS,
}
TABLES = st.fixed_dictionaries({}, optional={name: values | VALUES for name, values in LIKELY.items()})


@settings(max_examples=200, deadline=None)
@given(TABLES)
def test_schema_and_parser_agree(table: dict[str, Any]) -> None:
    valid = VALIDATOR.is_valid(table)
    try:
        parse(Everything, table)
    except Refused as error:
        assert not valid, error
    else:
        assert valid


VALIDATOR = jsonschema.Draft202012Validator(schema(Everything))

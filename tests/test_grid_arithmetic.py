"""Arithmetic: what it computes, and that nothing else gets through."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridrun.grid.derive import evaluate, names_in

NAMES = {"epochs": 200, "lr": 0.1, "model.depth": 20, "batch_size": 128}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.5 * epochs", 100.0),
        ("epochs // 3", 66),
        ("epochs % 3", 2),
        ("epochs / 400", 0.5),
        ("0.1 * batch_size / 128", 0.1),
        ("(model.depth - 2) / 6", 3.0),
        ("-epochs + +1", -199),
        ("2 ** 10", 1024),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("1e-3", 0.001),
        (" 7 ", 7),
        ("min(epochs, 30, 40)", 30),
        ("max(lr, 1)", 1),
        ("round(2.6)", 3),
        ("floor(2.6)", 2),
        ("ceil(2.2)", 3),
        ("sqrt(16) * lr", 0.4),
    ],
)
def test_values(expression, value):
    found = evaluate(expression, NAMES)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0.5 * epoch", "unknown name 'epoch'. Did you mean 'epochs'?"),
        ("model.dept", "unknown name 'model.dept'. Did you mean 'model.depth'?"),
        ("log(2)", "unknown function 'log'"),
        ("sqr(2)", "unknown function 'sqr'. Did you mean 'sqrt'?"),
        ("min(1)", "min takes two or more numbers"),
        ("sqrt(1, 2)", "sqrt takes one number"),
        ("min(1, 2, key=3)", "min takes"),
        ("min(*epochs, 1)", "not arithmetic"),
        ("sqrt(-1)", "not a number"),
        ("(-1) ** 0.5", "not a number of moderate size"),
        ("1 / 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("1e308 * 10", "moderate size"),
        ("1e999", "moderate size"),
        ("9 ** 9 ** 9", "too large"),
        ("9 ** 9 ** 9 ** 9", "too large"),
        ("2 ** 64 ** 64", "too large"),
        ("True", "not a number"),
        ("'a'", "not a number"),
        ("1j", "not a number"),
        ("epochs > 3", "not arithmetic"),
        ("[1, 2]", "not arithmetic"),
        ("1 if 2 else 3", "not arithmetic"),
        ("lambda: 1", "not arithmetic"),
        ("epochs.real()", "unknown function"),
        ("(1).real", "not arithmetic"),
        ("__import__('os')", "unknown function '__import__'"),
        ("1 +", "not arithmetic"),
        ("", "not arithmetic"),
        ("1; 2", "not arithmetic"),
        ("0x1for x in y", "not arithmetic"),
        ("1 << 1000000", "not arithmetic"),
        ("1" * 501, "500 characters"),
        ("-" * 499 + "1", "nested too deeply"),
        ("(" * 240 + "1" + ")" * 240, "not arithmetic"),
    ],
)
def test_refused(expression, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        evaluate(expression, NAMES)


def test_names():
    assert names_in("0.5 * epochs + model.depth - min(lr, epochs)") == {"epochs", "model.depth", "lr"}
    assert names_in("3") == frozenset()
    with pytest.raises(ValueError, match="not arithmetic"):
        names_in("a b")


@given(st.integers(-100, 100), st.integers(-100, 100), st.floats(-100, 100, allow_subnormal=False))
def test_agrees_with_python(a, b, c):
    names = {"a": a, "b": b, "x.c": c}
    assert evaluate("a + b * x.c - (a - b)", names) == a + b * c - (a - b)
    assert evaluate("max(a, b) - min(a, b)", names) == abs(a - b)


@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            ["9", "1e300", "a", "a.b", "*", "**", "-", "/", "//", "%", "(", ")", ",", "min", "sqrt"]
        ),
        max_size=14,
    ).map(" ".join)
)
def test_anything_ends_in_a_finite_number_or_an_error(expression):
    try:
        found = evaluate(expression, {"a": 3, "a.b": 0.5})
    except ValueError:
        return
    assert type(found) in (int, float)
    assert math.isfinite(found)

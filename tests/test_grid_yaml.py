"""YAML read with its lines, and what is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridrun.errors import GridError
from gridrun.grid.node import Located, locate
from gridrun.grid.yaml import MAX_BYTES, load_yaml, parse_yaml


def plain(text: str):
    return parse_yaml(text, "g.yaml").plain()


def test_values_and_their_lines():
    document = parse_yaml(
        "# a comment\nbase:\n  lr: 0.1\n  model:\n    depth: 20\naxes:\n- 1\n\n- x\n", "g.yaml"
    )
    base, axes = document.value["base"], document.value["axes"]
    assert (document.line, base.line, axes.line) == (2, 2, 6)
    assert base.value["lr"] == Located(0.1, 3)
    assert base.value["model"].value["depth"] == Located(20, 5)
    assert [(item.value, item.line) for item in axes.value] == [(1, 7), ("x", 9)]
    assert document.plain() == {"base": {"lr": 0.1, "model": {"depth": 20}}, "axes": [1, "x"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1_000", -1000),
        ("0x10", 16),
        ("0b11", 3),
        ("0", 0),
        ("0.5", 0.5),
        ("1.5e-3", 0.0015),
        (".5", 0.5),
        ("-.5", "-.5"),
        ("1e-3", "1e-3"),  # YAML 1.1 wants a dot: the config reader says so
        ("1:30", "1:30"),  # base 60 elsewhere
        ("1:30.5", "1:30.5"),
        ("'010'", "010"),
        ('"2020-01-01"', "2020-01-01"),
        ("no", False),
        ("On", True),
        ("~", None),
        ("", None),
        ("=", "="),
        ("<<", "<<"),
        ("!!str 3", "3"),
        ("! 3", "3"),
        ("!!str 08", "08"),
        ("!!float 3", 3.0),
        ("!!seq [1]", [1]),
        ("{}", {}),
    ],
)
def test_scalars(text, value):
    found = plain(f"x: {text}")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("a: 1\nb: [1,\n", 3, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: 1\nb: \x01\n", 2, "not YAML"),
        ("é: 1\nb: \x01\n", 2, "not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\nb: 2\na: 3\n", 3, "a: appears twice (first on line 1)"),
        ("a: 1\n1: 2\n", 2, "YAML reads it as 1 unless you quote it"),
        ("a: 1\nno: 2\n", 2, "no: a key must be text; YAML reads it as False"),
        ("a: 1\n[b]: 2\n", 2, "a key must be text"),
        ('a: 1\n"\\e[31m": 2\n', 2, "cannot be shown"),
        ("x:\n- !!python/object:os.system a\n", 2, "unknown tag '!!python/object:os.system'"),
        ("x:\n- !mine {a: 1}\n", 2, "unknown tag '!mine'"),
        ("x:\n- !!seq {a: 1}\n", 2, "unknown tag '!!seq'"),
        ("x:\n- !!binary aGk=\n", 2, "unknown tag '!!binary'"),
        ("x: 2020-01-01\n", 1, "reads it as a date"),
        ("x:\n- 010\n", 2, "leading zero"),
        ("x: 08\n", 1, "leading zero"),
        ("x: .inf\n", 1, "not a finite number"),
        ("x: -.INF\n", 1, "not a finite number"),
        ("x: .nan\n", 1, "not a finite number"),
        ("x: 1.0e+999\n", 1, "not a finite number"),
        ("x: " + "9" * 5000, 1, "too large"),
        ("x: 9223372036854775808", 1, "too large"),
        ("x: !!int one", 1, "'one'"),
        ("x: !!bool maybe", 1, "is not true or false"),
        ("a: &a 1\nb:\n  <<: *a\n", 3, "use `include`"),
        ("a: 1\nb: *c\n", 2, "unknown alias *c"),
        ("a: &a\n- *a\n", 2, "the alias *a is inside the value it names"),
        ("a: &a {b: {c: *a}}\n", 1, "the alias *a is inside the value it names"),
        ("a: &a 1\nb: &a 2\n", 2, "the anchor &a already names another value"),
        ("a: &a b\n? *a\n: 2\n", 2, "a key must be text"),
        ("x: " + "[" * 100_000, 1, "nested more than 50 deep"),
        ("x: " + "{a: " * 60, 1, "nested more than 50 deep"),
    ],
)
def test_refused(text, line, said):
    with pytest.raises(GridError) as caught:
        parse_yaml(text, "g.yaml")
    assert str(caught.value).startswith(f"g.yaml:{line}: ")
    assert said in str(caught.value)


def test_aliases_share_but_may_not_explode():
    assert plain("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}
    lines = ["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    with pytest.raises(GridError, match="stands for more than 1,000,000 values"):
        plain("\n".join(lines))


def test_aliases_count_towards_the_depth():
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 200))]
    with pytest.raises(GridError, match=r"^g\.yaml:50: is nested more than 50 deep"):
        plain("\n".join(lines))


def test_an_alias_has_its_own_line():
    document = parse_yaml("a: &x [1]\nb:\n- *x\n- 2\n- *x\n", "g.yaml")
    assert [item.line for item in document.value["b"].value] == [3, 4, 5]


def test_files(tmp_path: Path):
    path = tmp_path / "g.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\nb: 2\r\n")
    assert load_yaml(path).plain() == {"a": "é", "b": 2}
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(GridError, match=r"g\.yaml:2: is not UTF-8 text"):
        load_yaml(path)
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(GridError, match="larger than 4 MiB"):
        load_yaml(path)
    with pytest.raises(GridError, match=r"other\.yaml: no such file"):
        load_yaml(tmp_path / "other.yaml")
    with pytest.raises(GridError, match="not a regular file"):
        load_yaml(tmp_path)
    with pytest.raises(GridError, match="cannot be read"):
        load_yaml(tmp_path / ("x" * 300))
    with pytest.raises(GridError, match="cannot be read"):
        load_yaml(tmp_path / "a\0b")


def test_plain_data_has_no_lines():
    value = {"model": {"depth": 20}, "milestones": [1, 2]}
    assert locate(value).plain() == value
    assert locate(value).value["model"].line == 0


@given(st.text(max_size=60) | st.text(alphabet="[]{}:,-&*!<>|'\"\n #a1.?%@~=", max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(GridError):
        json.dumps(parse_yaml(text, "g.yaml").plain(), allow_nan=False)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(data)
    with contextlib.suppress(GridError):
        json.dumps(load_yaml(path).plain(), allow_nan=False)

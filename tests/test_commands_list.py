"""The reference of options: `gridrun list` with a name, and docs/options.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

import cli
from gridrun.commands.list import KINDS, registry_named
from trainer import TrainConfig
from trainer.reference import options_of
from trainer.registry import Options

ROOT = Path(__file__).parent.parent


def ok(*arguments: str) -> str:
    result = CliRunner().invoke(cli.main, ["list", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@dataclass(frozen=True, kw_only=True)
class Base(Options):
    size: int
    """A word
    and another."""
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Derived(Base):
    """Of a test."""

    size: int = 3
    scale: float | Literal["dynamic"] | None = None
    side: tuple[Literal["left", "right"], ...] = ("left",)
    """Which one."""


def test_options_are_read_from_fields_and_the_docstrings_under_them() -> None:
    size, share, scale, side = options_of(Derived)
    assert (size.name, size.type, size.default_in_words) == ("size", "whole number", "3")
    assert size.meaning == "A word and another.", "it is inherited with the field"
    assert (share.type, share.default_in_words, share.meaning) == ("number, or null", "null", "")
    assert scale.type == "number, or one of dynamic, or null"
    assert (side.type, side.default_in_words) == ("list of (one of left, right)", '["left"]')
    assert options_of(Base)[0].default_in_words == "required"


def test_one_model_is_shown_with_its_options_and_its_paper() -> None:
    shown = ok("models", "resnet_preact")
    assert "depth  whole number; required\n    Layers: 6n + 2 with basic blocks" in shown
    assert "block_type  one of basic, bottleneck; default basic" in shown
    assert "arXiv:1603.05027" in shown
    assert "trainer/models/resnet_preact/__init__.py" in shown


def test_the_options_of_every_trial_are_shown_alone_or_together() -> None:
    assert "optimizer  name of an optimizer, or a mapping with it and its options; default sgd" in ok(
        "options"
    )
    assert ok("options", "lr") == "lr  number; default 0.1\n    Peak learning rate.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "resnet_preac"], "unknown model 'resnet_preac'. Did you mean 'resnet_preact'?"),
        (["options", "lrr"], "unknown option 'lrr'. Did you mean 'lr'?"),
        (["grids", "lars"], "grids have no NAME"),
        (["models", "wrn", "--counts"], "--counts goes with models, without a NAME"),
        (["models", "--markdown"], "--markdown goes with options"),
    ],
)
def test_unknown_names_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.main, ["list", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def test_every_option_says_what_it_means() -> None:
    classes: list[type] = [TrainConfig]
    for kind in KINDS:
        registry = registry_named(kind)
        classes += [registry.get(name) for name in registry.names()]
    for cls in classes:
        for option in options_of(cls):
            assert option.meaning, f"{cls.__name__}.{option.name}"


def test_every_kind_can_be_listed() -> None:
    packages = {path.parent.name: path.read_text() for path in (ROOT / "trainer").glob("*/__init__.py")}
    assert set(KINDS) == {name for name, code in packages.items() if f"\n{name}: Registry[" in code}


def test_the_reference_is_that_of_the_code() -> None:
    hint = "run `gridrun list options --markdown > docs/options.md`"
    assert (ROOT / "docs" / "options.md").read_text() == ok("options", "--markdown"), hint


def test_the_page_of_keys_commands_and_columns_is_up_to_date() -> None:
    hint = "run `gridrun list reference --markdown > docs/reference.md`"
    assert (ROOT / "docs" / "reference.md").read_text() == ok("reference", "--markdown"), hint

"""Garbage collection is put off, never switched off for good."""

from __future__ import annotations

import gc

import pytest

from gridrun.garbage import without_garbage_collection


def test_it_is_on_again_after_an_error() -> None:
    @without_garbage_collection()
    def fail() -> None:
        raise KeyError(gc.isenabled())

    assert gc.isenabled()
    with pytest.raises(KeyError, match="False"):
        fail()
    assert gc.isenabled()


def test_an_inner_one_leaves_the_outer_ones_off() -> None:
    @without_garbage_collection()
    def inner() -> bool:
        return gc.isenabled()

    with without_garbage_collection():
        assert not inner()
        assert not gc.isenabled()
    assert not inner(), "a second call, too"
    assert gc.isenabled()

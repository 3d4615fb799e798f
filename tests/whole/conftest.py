"""Checkouts to run the whole path in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.whole.checkout import Checkout

# a third of the experiment's epochs: enough to be better than chance
REAL = ("experiment=common30", "split.valid=0.2", "fit.epochs=20")


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Checkout:
    """A copy in which the main job has run."""
    checkout = Checkout(tmp_path_factory.mktemp("trained"))
    checkout.first_output = checkout.train()
    return checkout


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A fresh copy."""
    return Checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def real_trained(tmp_path_factory, real_audio: Path) -> Checkout:
    """A copy in which the main job has run on real recordings."""
    checkout = Checkout(tmp_path_factory.mktemp("real"), small=False)
    checkout.first_output = checkout.train(*REAL, f"dataset.root={real_audio}")
    return checkout

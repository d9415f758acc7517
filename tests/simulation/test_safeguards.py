"""The proof of the simulation: with any one safeguard taken away, the seeds find out."""

import pytest

from tests.simulation.safeguards import SAFEGUARDS
from tests.simulation.world import run_seed

SEEDS_AT_MOST = 600


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_the_seeds_find_what_goes_wrong_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SAFEGUARDS[name](monkeypatch)
    found = next((seed for seed in range(SEEDS_AT_MOST) if run_seed(seed).failures), None)
    assert found is not None, f"{SEEDS_AT_MOST} runs went well without: {name}"

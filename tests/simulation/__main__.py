"""Replays runs by their seeds: python -m tests.simulation 4711 [...]"""

import sys

from tests.simulation.world import run_seed

for seed in map(int, sys.argv[1:]):
    outcome = run_seed(seed, traced=True)
    sys.stdout.write(
        "\n".join([*outcome.trace, f"seed {seed}: {outcome.failures or 'all well'}\n"])
    )

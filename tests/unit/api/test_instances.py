"""How an instance is told to the operator."""

import msgspec

from tableforge.api.instances import line_of
from tableforge.library.instances import Instance, Load

SERVING = Instance(
    id="one",
    incarnation="x",
    version="1",
    started=0.0,
    seen=1.0,
    silent_seconds=0.0,
    alive=True,
    load=Load(connections=3, rooms=2, cpu=0.5, loop_lag_ms=4.0),
    weight=1,
    has_bus=True,
)


def test_rg8_one_that_is_gone_carries_nothing() -> None:
    gone = line_of(msgspec.structs.replace(SERVING, alive=False), serves=True)
    assert (gone.state, gone.ready) == ("gone", False)
    assert (gone.connections, gone.rooms, gone.cpu, gone.loop_lag_ms) == (0, 0, 0.0, 0.0)
    assert line_of(SERVING, serves=True).connections == 3


def test_rg8_one_that_lacks_its_database_is_not_ready() -> None:
    assert line_of(SERVING, serves=True).ready is True
    lacking = line_of(SERVING, serves=False)
    assert (lacking.state, lacking.ready, lacking.connections) == ("serving", False, 3)

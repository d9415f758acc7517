"""Plans of proxies: what is read, and what does not go together."""

import pytest

from tableforge.errors import Malformed
from tableforge.ops.proxies import (
    Address,
    Instance,
    Plan,
    haproxy,
    nginx,
    read_address,
    read_instance,
)

HERE = Address("127.0.0.1", 8080)
FIGURES = Address("127.0.0.1", 8404)
A = Instance("a", Address("10.0.0.1", 8080))
B = Instance("b", Address("10.0.0.2", 8080))


def test_instances_are_read() -> None:
    assert read_instance("a=10.0.0.1:8080") == A
    assert read_instance("a.b-c_1=table-1:80@256") == ("a.b-c_1", ("table-1", 80), 256)
    assert read_instance("six=[::1]:80@1") == ("six", ("::1", 80), 1)
    assert str(read_address("[0:0::1]:80")) == "[::1]:80"


@pytest.mark.parametrize(
    "written",
    [
        *("", "a", "a=", "a=:80", "a=host", "a=host:", "a=host:0", "a=host:65536", "a=host:8x"),
        *("=host:80", "a b=host:80", "a=ho st:80", "a=host:80@", "a=host:80@0", "a=host:80@257"),
        *(
            "a=host:80@x",
            "a=::1:80",
            "a=[::1:80",
            "a=[host]:80",
            "a=[]:80",
            "a=host:80\n",
            "a=h;o:8",
        ),
    ],
)
def test_what_is_no_instance_is_refused(written: str) -> None:
    with pytest.raises(Malformed):
        read_instance(written)


@pytest.mark.parametrize("write", [haproxy, nginx])
@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan("round_robin", [], HERE, FIGURES), "1 to 100 instances, not 0"),
        (Plan("round_robin", [A, A._replace(address=B.address)], HERE, FIGURES), "name a"),
        (Plan("round_robin", [A, A._replace(name="b")], HERE, FIGURES), "address 10.0.0.1:8080"),
        (Plan("round_robin", [A, B._replace(weight=2)], HERE, FIGURES), "knows no weights"),
        (Plan("round_robin", [A, B], B.address, FIGURES), "cannot listen"),
        (Plan("round_robin", [A, B], HERE, HERE), "cannot listen"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(write: object, plan: Plan, says: str) -> None:
    assert callable(write)
    with pytest.raises(Malformed, match=says):
        write(plan)


def test_a_quiet_websocket_outlives_the_pings() -> None:
    quick = Plan("round_robin", [A], HERE, FIGURES, ping_seconds=2)
    assert quick.idle_seconds == 60
    assert quick._replace(ping_seconds=30).idle_seconds == 180

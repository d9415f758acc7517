"""The contract's targets as every bench names them; a figure without a target here is a bench's own."""

from typing import Final

from tableforge.bench.document import Target

API_P95: Final = Target("API response p95", "<", 50, "ms", "api")
DELIVERY_P95: Final = Target("WebSocket delivery p95, one instance", "<", 10, "ms", "websocket")
USERS: Final = Target("concurrent users on one instance", ">=", 1000, "users", "websocket")
MEMORY: Final = Target("memory of the server for 1000 users", "<", 512, "MB", "websocket")
CPU: Final = Target("CPU at 1000 users", "<", 70, "% of a core", "websocket")
CONNECTION_FAILURES: Final = Target("connection failures", "<=", 0, "", "websocket")
ERROR_RATE: Final = Target("error rate", "<", 0.1, "%", "websocket")
USE_AT_THE_KNEE: Final = Target("use at the knee", ">=", 70, "% of a core", "websocket")
OVERLOAD_P95: Final = Target(
    "ten-fold load: delivery p95 of the accepted part", "<", 10, "ms", "websocket"
)
DELIVERY_P95_OF_TWO: Final = Target(
    "WebSocket delivery p95, two instances", "<", 10, "ms", "scaling"
)
DISTRIBUTION: Final = Target(
    "load distribution: off the mean, also after a rolling restart", "<=", 10, "%", "scaling"
)
EFFICIENCY: Final = Target("scaling efficiency", ">", 80, "%", "scaling")
QUERY_P95: Final = Target("database query p95", "<", 25, "ms", "database")
HIT_RATE: Final = Target("cache hit rate", ">", 90, "%", "cache")
RECOVERY: Final = Target("recovery after an instance is killed", "<", 30, "s", "chaos")
LOST: Final = Target("acknowledged and lost, doubled or out of order", "<=", 0, "", "chaos")

CONTRACT: Final = (
    API_P95,
    DELIVERY_P95,
    DELIVERY_P95_OF_TWO,
    USERS,
    QUERY_P95,
    HIT_RATE,
    MEMORY,
    CONNECTION_FAILURES,
    ERROR_RATE,
    DISTRIBUTION,
    EFFICIENCY,
    RECOVERY,
    LOST,
    CPU,
    USE_AT_THE_KNEE,
    OVERLOAD_P95,
)
"""In the order of the table of a report; all of them stand in it, measured or not."""

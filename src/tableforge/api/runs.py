"""For the operator: how an order is getting on, whichever instance carries it out."""

from collections.abc import Sequence
from typing import Any, Final

from litestar import get
from litestar.params import FromPath
from msgspec import Struct

from tableforge.api.auth import require_admin
from tableforge.api.caller import Caller
from tableforge.api.documents import documented
from tableforge.api.house import house_of
from tableforge.api.orders import moment
from tableforge.errors import Forbidden, NotFound
from tableforge.library.runs import Action, Run


class RunLine(Struct, frozen=True):
    """A run as it is told; `ended` is null while it lasts, `progress` says how far it is."""

    run: str
    kind: str
    instance: str
    started: str
    ended: str | None
    progress: str
    actions: Sequence[Action]


def line_of(run: Run) -> RunLine:
    """A run as it is told."""
    return RunLine(
        run.id,
        run.kind,
        run.instance,
        moment(run.started),
        moment(run.ended) if run.is_over else None,
        run.progress,
        run.actions,
    )


@get(
    "/api/admin/runs/{run:str}",
    opt=documented(gives={200: RunLine}, refuses=(Forbidden, NotFound), tag="admin"),
)
async def find_run(request: Caller, run: FromPath[str]) -> RunLine:
    """How far an order of the operator is, or how it went; any instance can tell."""
    await require_admin(request)
    return line_of(await house_of(request).orders.runs.find(run))


ROUTES: Final[list[Any]] = [find_run]

"""Lists and searches against a database as it stands: how long a page takes, wherever it lies and whatever is looked for.

Whoever calls this says what can be asked (`Question`): the bench knows neither the tables nor the statements.
"""

import random
import time
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from tableforge.bench.latency import Quantiles, quantiles

TARGET_MS: Final = 25.0
"""The contract's: p95 of a query."""
WARM_UP_PAGES: Final = 10
"""Until statements are prepared and the plans that they keep are chosen."""

Ask = Callable[[random.Random], Awaitable[int]]
"""Asks for one page, chosen by the random numbers, and returns how many rows came."""
Progress = Callable[[str], None]


class Question(NamedTuple):
    """Something that is asked again and again."""

    name: str
    ask: Ask


@dataclass(frozen=True, slots=True)
class Answered:
    """How long the pages of one question took, and how many rows there were on all of them."""

    name: str
    pages: Quantiles
    rows: int

    @property
    def met(self) -> bool:
        """Whether it was quick enough."""
        return self.pages.p95_ms < TARGET_MS


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured: the questions in their order, how the database answers each statement, and what is in it."""

    server: str
    contents: Mapping[str, int]
    answers: Sequence[Answered]
    plans: Mapping[str, str]

    @property
    def failed(self) -> bool:
        """Whether a target was missed."""
        return not all(answer.met for answer in self.answers)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "server": self.server,
            "target_p95_ms": TARGET_MS,
            "contents": dict(self.contents),
            "answers": [{**asdict(answer), "met": answer.met} for answer in self.answers],
            "plans": dict(self.plans),
        }

    def text(self, *, plans: bool) -> str:
        """For people."""
        held = ", ".join(f"{count} {name}" for name, count in self.contents.items())
        lines = [f"{self.server}: {held}", ""]
        lines.append(f"{'a page of':48} {'p50':>8} {'p95':>8} {'p99':>8} {'max':>8}  rows")
        for one in self.answers:
            found = one.pages
            lines.append(
                f"{one.name:48} {found.p50_ms:8.2f} {found.p95_ms:8.2f} {found.p99_ms:8.2f} {found.max_ms:8.2f}"
                f"  {one.rows / max(1, found.count):.0f}{'' if one.met else '  NOT MET'}"
            )
        lines += ["", f"Milliseconds; the target is p95 below {TARGET_MS:.0f}."]
        if plans:
            for name, plan in self.plans.items():
                lines += ["", name, plan]
        return "\n".join(lines)


async def run(
    questions: Sequence[Question],
    *,
    pages: int,
    seed: int,
    server: str,
    contents: Mapping[str, int],
    plans: Mapping[str, str],
    progress: Progress,
) -> Report:
    """Ask every question `pages` times, one at a time."""
    answers = []
    for number, question in enumerate(questions, 1):
        chance = random.Random(f"{seed} {question.name}")  # noqa: S311 - to be the same again, not to be secret
        for _ in range(min(pages, WARM_UP_PAGES)):
            await question.ask(chance)
        rows, taken = 0, array("l")
        for _ in range(pages):
            began = time.perf_counter()
            rows += await question.ask(chance)
            taken.append(round((time.perf_counter() - began) * 1e6))
        answers.append(Answered(question.name, quantiles(taken), rows))
        progress(
            f"{number} of {len(questions)}: {question.name}: p95 {answers[-1].pages.p95_ms:.2f} ms"
        )
    return Report(server, contents, answers, plans)

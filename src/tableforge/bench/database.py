"""Lists and searches against a database as it stands: how long a page takes, wherever it lies and whatever is looked for.

Whoever calls this says what can be asked (`Question`): the bench knows neither the tables nor the statements.
"""

import random
import time
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from tableforge.bench.document import Axis, Plot, Sample, Section, Series, Table
from tableforge.bench.latency import Quantiles, distribution, middle, quantiles
from tableforge.bench.targets import QUERY_P95

TARGET_MS: Final = QUERY_P95.limit
ROUNDS: Final = 5
"""All questions are asked in turn, so often; a round's pages are a part of all."""
WARM_UP_PAGES: Final = 10
"""Until statements are prepared and the plans that they keep are chosen."""

Ask = Callable[[random.Random], Awaitable[int]]
"""Asks for one page, chosen by the random numbers, and returns how many rows came."""
Progress = Callable[[str, int, int], None]
"""Told of which part, how much is done, of how much."""


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
    rounds: Sequence[float]
    """p95 of each round, milliseconds."""

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
    curve: tuple[tuple[float, float], ...]
    """How rare a page is, and what it takes in ms; of all questions."""
    command: str

    @property
    def failed(self) -> bool:
        """Whether a target was missed."""
        return not all(answer.met for answer in self.answers)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "bench": "database",
            "server": self.server,
            "target_p95_ms": TARGET_MS,
            "contents": dict(self.contents),
            "answers": [{**asdict(answer), "met": answer.met} for answer in self.answers],
            "plans": dict(self.plans),
        }

    def section(self) -> Section:
        """The slowest question decides."""
        slowest = max((one.pages.p95_ms for one in self.answers), default=None)
        held = ", ".join(f"{count} {name}" for name, count in self.contents.items())
        names = tuple(one.name for one in self.answers)
        return Section(
            bench="database",
            title="Database",
            command=self.command,
            settings={"server": self.server, "data": held},
            kpis=(QUERY_P95.judged(slowest, self.command),),
            samples=(
                Sample("database.p95", "ms", "lower", self.medians()),
                *(
                    Sample(f"database.p95 {one.name}", "ms", "lower", tuple(one.rounds))
                    for one in self.answers
                    if min(one.rounds) > 0
                ),
            ),
            plots=(
                Plot(
                    name="database-questions",
                    title="p95 of a page, by what is asked",
                    kind="bars",
                    x=Axis("question", ""),
                    y=Axis("p95", "ms"),
                    series=(
                        Series(
                            "p95",
                            tuple((n, one.pages.p95_ms) for n, one in enumerate(self.answers)),
                        ),
                        Series(
                            "target",
                            tuple((n, TARGET_MS) for n, _ in enumerate(self.answers)),
                            "ideal",
                        ),
                    ),
                    labels=names,
                    note=held,
                ),
                Plot(
                    name="database-latency",
                    title="How long pages take, all questions",
                    kind="line",
                    x=Axis("percentile", "percentile", log=True),
                    y=Axis("page", "ms"),
                    series=(Series("pages", self.curve),),
                ),
            ),
            tables=(
                Table(
                    "A page, in milliseconds",
                    ("question", "p50", "p95", "p99", "most", "rows"),
                    tuple(
                        (
                            one.name,
                            *(
                                f"{value:.2f}"
                                for value in (
                                    one.pages.p50_ms,
                                    one.pages.p95_ms,
                                    one.pages.p99_ms,
                                    one.pages.max_ms,
                                )
                            ),
                            f"{one.rows / max(1, one.pages.count):.0f}",
                        )
                        for one in self.answers
                    ),
                ),
            ),
            notes=(f"Data: {held}.",),
            figures=self.as_json(),
        )

    def medians(self) -> tuple[float, ...]:
        """Of each round, the p95 of the question in the middle."""
        each = zip(*(one.rounds for one in self.answers), strict=True)
        return tuple(max(0.001, middle(round_)) for round_ in each)

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
    command: str,
) -> Report:
    """Ask every question `pages` times, one at a time, in rounds, so that a slow moment of the machine meets all of them."""
    chances = [random.Random(f"{seed} {one.name}") for one in questions]  # noqa: S311 - the same again, not secret
    each = max(1, pages // ROUNDS)
    taken = [[array("l") for _ in range(ROUNDS)] for _ in questions]
    rows = [0] * len(questions)
    for question, chance in zip(questions, chances, strict=True):
        for _ in range(min(pages, WARM_UP_PAGES)):
            await question.ask(chance)
    for round_ in range(ROUNDS):
        for number, question in enumerate(questions):
            for _ in range(each):
                began = time.perf_counter()
                rows[number] += await question.ask(chances[number])
                taken[number][round_].append(round((time.perf_counter() - began) * 1e6))
            progress("questions", round_ * len(questions) + number + 1, ROUNDS * len(questions))
    answers = [
        Answered(
            question.name,
            quantiles(_together(rounds)),
            found,
            [quantiles(one).p95_ms for one in rounds],
        )
        for question, found, rounds in zip(questions, rows, taken, strict=True)
    ]
    curve = distribution(_together([_together(rounds) for rounds in taken]))
    return Report(server, contents, answers, plans, curve, command)


def _together(parts: Sequence["array[int]"]) -> "array[int]":
    whole = array("l")
    for part in parts:
        whole.extend(part)
    return whole

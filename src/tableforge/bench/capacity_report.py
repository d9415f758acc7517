"""What a sweep found: every run beside what the model makes of it, for people, for programs and as a part of a report."""

from typing import Any, Final, NamedTuple

import msgspec

from tableforge.bench.capacity import Mode, Model, Observed, counted, priced
from tableforge.bench.document import Axis, Kpi, Plot, Section, Series, Table, Target

ERROR_PERCENT: Final = 20.0
"""The model's own target, of processor and memory, for runs that it did not know."""
MEBIBYTE: Final = 2**20
SCALES: Final = {"cpu": (10_000, "% of a core"), "memory": (MEBIBYTE, "MiB")}


class Report(NamedTuple):
    """A model with its runs."""

    model: Model

    def as_json(self) -> dict[str, Any]:
        """The model as its file has it."""
        plain: dict[str, Any] = msgspec.to_builtins(self.model)
        return plain

    def text(self) -> str:
        """For people."""
        lines = [
            "servers   users   room   rate/s   CPU %  model   memory MiB  model   delivery p95 ms   kept from the fit"
        ]
        lines += [_row(self.model, run) for run in self.model.runs]
        for kpi in self._kpis():
            lines.append(f"{kpi.name}: {kpi.measured} (target {kpi.target}) {kpi.verdict.value}")
        return "\n".join(lines)

    def section(self) -> Section:
        """As a part of a report."""
        plots = []
        for figure, (_, unit) in SCALES.items():
            words = "processor time" if figure == "cpu" else "memory"
            plots += [
                Plot(
                    name=f"capacity-{figure}-fit",
                    title=f"The model's {words} against the measured",
                    kind="points",
                    x=Axis("measured", unit),
                    y=Axis("by the model", unit),
                    series=self._fit_against_measured(figure),
                    note="On the line the model is right; the fit did not know the runs that were kept from it.",
                ),
                Plot(
                    name=f"capacity-{figure}-users",
                    title=f"What users cost: {words} at one command every two seconds, rooms of 6",
                    kind="line",
                    x=Axis("users", ""),
                    y=Axis("by the model", unit),
                    series=self._against_users(figure),
                ),
            ]
        return Section(
            bench="capacity",
            title="What a connection, a command and a delivery cost",
            command=self.model.command,
            kpis=tuple(self._kpis()),
            plots=tuple(plots),
            tables=tuple(self._prices(mode) for mode in self.model.modes),
            figures=self.as_json(),
        )

    def _kpis(self) -> list[Kpi]:
        return [
            Target(
                f"capacity model, {mode}: error of {figure} for runs that it did not know",
                "<",
                ERROR_PERCENT,
                "%",
                "capacity",
                own=True,
            ).judged(100 * found.errors[figure].held_out, self.model.command)
            for mode, found in self.model.modes.items()
            for figure in SCALES
        ]

    def _fit_against_measured(self, figure: str) -> tuple[Series, ...]:
        scale, _ = SCALES[figure]
        series = []
        largest = 0.0
        for mode in self.model.modes:
            for held_out in (False, True):
                points = [
                    (run.figures[figure] / scale, modelled(self.model, run, figure) / scale)
                    for run in self.model.runs
                    if run.spread.mode == mode and run.held_out == held_out
                ]
                if points:
                    name = f"{mode}, {'kept from the fit' if held_out else 'fitted'}"
                    series.append(Series(name, tuple(sorted(points))))
                    largest = max(largest, *(max(point) for point in points))
        series.append(Series("right", ((0.0, 0.0), (largest, largest)), "ideal"))
        return tuple(series)

    def _against_users(self, figure: str) -> tuple[Series, ...]:
        scale, _ = SCALES[figure]
        series = []
        for mode, found in self.model.modes.items():
            run = next(one for one in self.model.runs if one.spread.mode == mode)
            most = int(found.most["users an instance"])
            points = []
            for users in range(most // 10, most + 1, max(1, most // 10)):
                load = run.load._replace(users=users, room_size=6, rate=0.5, seconds=3600.0)
                alone = run.spread._replace(instances=1, touched=1.0)
                points.append(
                    (
                        float(users),
                        priced(found.prices[figure], counted(load, alone, found.disk)) / scale,
                    )
                )
            series.append(Series(f"{mode}, one instance", tuple(points)))
        return tuple(series)

    def _prices(self, mode: Mode) -> Table:
        found = self.model.modes[mode]
        return Table(
            f"Prices, {mode}",
            ("figure", "of", "price", "error kept from the fit"),
            tuple(
                (figure, name, f"{price:.4g}", f"{100 * found.errors[figure].held_out:.0f} %")
                for figure, prices in found.prices.items()
                for name, price in prices.items()
                if price
            ),
        )


def modelled(model: Model, run: Observed, figure: str) -> float:
    """What the model makes of a run."""
    known = model.modes[run.spread.mode]
    return priced(known.prices[figure], counted(run.load, run.spread, known.disk))


def _row(model: Model, run: Observed) -> str:
    cpu, memory = (
        (run.figures[figure] / scale, modelled(model, run, figure) / scale)
        for figure, (scale, _) in SCALES.items()
    )
    servers = "embedded" if run.spread.mode == "embedded" else f"fleet {run.spread.instances}"
    return (
        f"{servers:8} {run.load.users:6} {run.load.room_size:6} {run.load.rate:8.2f}"
        f" {cpu[0]:7.1f} {cpu[1]:6.1f} {memory[0]:12.0f} {memory[1]:6.0f} {run.p95_ms:17.2f}"
        f"   {'yes' if run.held_out else ''}"
    )

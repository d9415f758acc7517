"""Metrics as dashboards read them, and logs that give nothing away."""

import json
import logging
from collections.abc import Iterator
from itertools import pairwise

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tableforge.telemetry import (
    FAMILY_LIMIT,
    FAST,
    Family,
    Histogram,
    configure_logging,
    exposition,
    markdown,
    readings,
    samples,
)

PROMISED = {
    "websocket_connections",
    "websocket_connections_total",
    "websocket_connections_per_pod",
    "websocket_connection_failures_total",
    "websocket_connection_attempts_total",
    "websocket_message_latency_seconds",
    "websocket_messages_total",
    "db_query_duration_seconds",
    "http_request_duration_seconds",
    "room_command_duration_seconds",
    "room_events_total",
    "instance_info",
}
"""Names of the contract that dashboards ask for."""


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_observation_is_counted_once_and_below_its_bound(seconds: list[float]) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    buckets = histogram.buckets()
    assert histogram.count == len(seconds) == buckets[-1][1]
    assert histogram.total_seconds == pytest.approx(sum(seconds))
    for bound, below in buckets[:-1]:
        assert below == sum(one <= float(bound) for one in seconds)
    assert all(first[1] <= second[1] for first, second in pairwise(buckets))


@given(st.lists(st.floats(min_value=0, max_value=100), min_size=1))
def test_a_quantile_is_never_longer_than_what_was_seen(seconds: list[float]) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    whole = Histogram()
    whole.add(histogram)
    assert whole.longest_seconds == max(seconds)
    found = [whole.quantile(share) for share in (0.5, 0.95, 0.99, 1.0)]
    assert found == sorted(found)
    assert found[-1] <= max(seconds)


def test_what_took_no_time_is_not_read_from_the_first_bucket() -> None:
    histogram = Histogram()
    for _ in range(99):
        histogram.observe(0.0)
    assert histogram.quantile(0.99) == 0.0
    histogram.observe(3.0)
    assert histogram.quantile(0.99) == 0.0
    assert 2.0 < histogram.quantile(1.0) <= 3.0


def test_a_family_keeps_its_members_apart_and_their_number_bounded() -> None:
    family = Family()
    with family.time("a", "b"):
        pass
    assert family.of("a", "b").count == 1
    assert family.of("a", "c").count == 0
    for number in range(FAMILY_LIMIT * 2):
        family.of(str(number), "x").observe(1)
    members = dict(family.members())
    assert len(members) == FAMILY_LIMIT + 1
    assert members["other", "other"].count == FAMILY_LIMIT + 2


def test_time_is_observed_whatever_happens() -> None:
    family = Family()
    with pytest.raises(ValueError, match="no"), family.time("a"):
        raise ValueError("no")
    assert family.of("a").count == 1


def test_the_exposition_is_what_prometheus_reads() -> None:
    families = {one.name: one for one in text_string_to_metric_families(exposition().decode())}
    names = {sample.name for family in families.values() for sample in family.samples}
    assert "process_resident_memory_bytes" in names
    for declared, reading in readings():
        if not list(reading):
            continue  # nothing of its kind has happened, or what it tells of is not there
        suffix = "_count" if declared.kind == "histogram" else ""
        assert declared.name + suffix in names
    latency = families["websocket_message_latency_seconds"]
    bounds = [one.labels["le"] for one in latency.samples if one.name.endswith("_bucket")]
    assert bounds == [*map(repr, FAST), "+Inf"]


def test_every_metric_of_the_contract_is_declared_once_with_lower_case_labels() -> None:
    names = [declared.name for declared, _ in readings()]
    assert len(names) == len(set(names))
    assert set(names) >= PROMISED
    for declared, reading in readings():
        assert declared.says.endswith(".")
        assert all(label.islower() for label in declared.labels)
        for sample in samples(declared, reading):
            assert set(sample.labels) - {"le"} == set(declared.labels)


def test_the_manual_lists_every_metric() -> None:
    page = markdown()
    assert [one.name for one, _ in readings() if f"| `{one.name}` |" not in page] == []


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The logging of the other tests is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_logs_are_json_lines_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(as_json=True)
    structlog.get_logger("ours").info("came", user="ada", access_token="t0ken", Cookie="c00kie")
    logging.getLogger("theirs").warning("look: %s", "here", extra={"password": "passw0rd"})
    written = capsys.readouterr().err
    ours, theirs = (json.loads(line) for line in written.splitlines())
    assert (ours["event"], ours["user"], ours["level"]) == ("came", "ada", "info")
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"]) == ("look: here", "warning")
    for secret in ("t0ken", "c00kie", "passw0rd"):
        assert secret not in written


@pytest.mark.parametrize("as_json", [True, False])
def test_tracebacks_hold_no_values(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure_logging(as_json=as_json)
    token = "".join(("t0", "ken"))
    try:
        raise RuntimeError(len(token))
    except RuntimeError:
        structlog.get_logger("ours").exception("broke")
    written = capsys.readouterr().err
    assert "RuntimeError" in written
    assert "t0ken" not in written


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="warning", as_json=True)
    structlog.get_logger("ours").info("quiet")
    structlog.get_logger("ours").warning("loud")
    written = capsys.readouterr().err
    assert [json.loads(line)["event"] for line in written.splitlines()] == ["loud"]

"""How far a long command is, where nobody watches: a plain line now and then."""

import pytest

from tableforge.cli import keeping


def test_a_line_now_and_then_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with keeping.Progress() as progress:
        progress("rooms", 1, 9)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(keeping, "LINE_SECONDS", 0.0)
    with keeping.Progress() as progress:
        progress("rooms", 2, 9)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "rooms: 2 of 9\n")

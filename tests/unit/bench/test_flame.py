"""Profiles: of this process, and of one that ends by a signal; what that one starts is left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tableforge.bench.flame import environment, here

CHILD = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
subprocess.run([sys.executable, "-c", "sum(range(10))"], check=True)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_this_process_is_profiled_where_that_is_wanted(tmp_path: Path) -> None:
    with here(tmp_path / "out", "Some work", wanted=False):
        sum(number * number for number in range(1_000))
    assert not (tmp_path / "out").exists()
    with here(tmp_path / "out", "Some work", wanted=True):
        sum(number * number for number in range(1_000_000))
    assert "<html" in (tmp_path / "out" / "some-work.html").read_text("utf-8")
    assert json.loads((tmp_path / "out" / "some-work.speedscope.json").read_bytes())["profiles"]


def test_a_process_leaves_its_profile_when_it_is_ended(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={"PATH": os.defpath, **environment(tmp_path, "server")},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert len(list(tmp_path.glob("server-*.html"))) == 1
    assert len(list(tmp_path.glob("server-*.speedscope.json"))) == 1

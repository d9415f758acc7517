"""Settings in, running server out: the only place that picks implementations and puts the parts together."""

from tableforge.bootstrap.assembly import STATIC, Assembly, assemble
from tableforge.bootstrap.serving import run, serve

__all__ = ["STATIC", "Assembly", "assemble", "run", "serve"]

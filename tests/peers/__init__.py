"""Other servers that do the same work as ours, for `tableforge bench … --against`; what they need comes with `make peers`."""

from tests.peers.contenders import PEERS
from tests.peers.databases import GROUNDS

__all__ = ["GROUNDS", "PEERS"]

"""The yardsticks: work that no change of ours touches, made of what the measured operation is made of.

Each runs `count` times and is written so that machine, interpreter and libraries weigh on it as on the operation: rules are
Python and small structs, codecs are msgspec, a commit is bare SQLite, a delivery is the kernel's own work.
"""

import socket
import sqlite3
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

ROW_BYTES = 220


class Pawn(Struct, frozen=True):
    """Something like a piece."""

    id: str
    place: str
    x: float
    y: float
    owner: str | None = None


class Board(Struct, frozen=True):
    """Something like a room."""

    id: str
    version: int
    pawns: dict[str, Pawn]
    players: dict[str, str]


class Step(Struct, frozen=True, tag="step"):
    """An order of one kind."""

    id: str
    pawn: str
    x: float
    y: float


class Word(Struct, frozen=True, tag="word"):
    """An order of another kind."""

    id: str
    text: str
    tone: Literal["loud", "low"] = "loud"


class Envelope(Struct, frozen=True):
    """An order as it travels, unread."""

    id: int
    body: msgspec.Raw


Order = Step | Word

BOARD = Board(
    "b",
    1,
    {
        f"p{number}": Pawn(f"p{number}", "hall", number, 0.0, f"u{number % 10}")
        for number in range(30)
    },
    {f"u{number}": "player" for number in range(10)},
)
ORDERS: tuple[Order, ...] = tuple(
    Word(f"o{number}", f"word {number}")
    if number % 4 == 3
    else Step(f"o{number}", f"p{number}", number, 2.5)
    for number in range(20)
)
_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_envelopes = msgspec.json.Decoder(Envelope)
_encode = msgspec.json.Encoder().encode
ENVELOPES = tuple(_encode({"id": at, "body": order}) for at, order in enumerate(ORDERS))


def _obeyed(board: Board, order: Order) -> Board:
    """What a rule does: look things up, look at what they are, and make what comes of it."""
    match order:
        case Step():
            pawn = board.pawns[order.pawn]
            if board.players.get(pawn.owner or "") != "player" or pawn.place != "hall":
                raise AssertionError
            moved = replace(pawn, x=order.x, y=order.y)
            return replace(board, version=board.version + 1, pawns={**board.pawns, pawn.id: moved})
        case Word():
            line = tuple(sorted({part for part in order.text.split() if part.isprintable()}))
            return replace(board, version=board.version + len(line))


def rules(count: int) -> None:
    """Python, attribute access, dicts that are copied, structs that are made."""
    board, orders, size = BOARD, ORDERS, len(ORDERS)
    for number in range(count):
        _obeyed(board, orders[number % size])


def reading(count: int) -> None:
    """msgspec, bytes to structs, in two stages."""
    envelopes, size = ENVELOPES, len(ENVELOPES)
    for number in range(count):
        found = _envelopes.decode(envelopes[number % size])
        order = _orders.decode(found.body)
        if not order.id.isprintable():
            raise AssertionError


def writing(count: int) -> None:
    """msgspec, structs to bytes, and bytes put together."""
    orders, size = ORDERS, len(ORDERS)
    for number in range(count):
        data = _encode(orders[number % size])
        b"\x81\x7e%b%b" % (len(data).to_bytes(2, "big"), b"%b%b,%d" % (b"prefix", data, number))


class Commits:
    """Bare SQLite on the same disk, with the server's settings: `count` rows in one commit."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "reference.sqlite3", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "PRAGMA wal_autocheckpoint=4000",
            "CREATE TABLE rows (place INTEGER, seq INTEGER, data BLOB, key BLOB)",
            "CREATE UNIQUE INDEX rows_order ON rows (place, seq)",
            "CREATE UNIQUE INDEX rows_keys ON rows (key)",
        ):
            self._connection.execute(statement)
        self._data = bytes(ROW_BYTES)
        self._made = 0

    def __call__(self, count: int) -> None:
        made = range(self._made, self._made + count)
        self._made = made.stop
        rows = [
            (number % 10, number, self._data, (number * 2654435761).to_bytes(16, "big"))
            for number in made
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Pairs:
    """Connections over the loopback; what was sent is taken out by `drain`, outside of what is measured."""

    def __init__(self, count: int) -> None:
        self.near: list[socket.socket] = []
        self._far: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(count):
                far = socket.create_connection(listener.getsockname())
                near, _ = listener.accept()
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    end.setblocking(False)
                self.near.append(near)
                self._far.append(far)

    def drain(self) -> int:
        """Take everything out; how many bytes there were."""
        taken = 0
        for far in self._far:
            try:
                while found := far.recv(1 << 20):
                    taken += len(found)
            except BlockingIOError:
                continue
        return taken

    def close(self) -> None:
        """Close all ends."""
        for end in (*self.near, *self._far):
            end.close()


class Sending:
    """The kernel's part of a delivery: one frame into each of the connections, `count` times."""

    def __init__(self, pairs: Pairs, frame: bytes) -> None:
        self._sends = [end.send for end in pairs.near]
        self._frame = frame

    def __call__(self, count: int) -> None:
        frame, sends = self._frame, self._sends
        for _ in range(count):
            for send in sends:
                send(frame)

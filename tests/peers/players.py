"""Who speaks the protocols of the peers. The bare ones speak ours, as far as the crowd looks at it."""

from tableforge.bench.crowd import FIRST_ID, Player
from tableforge.bench.tables import Seat

MOVE = b'42%d["move",{"room":"%b","id":"m%d","type":"token.move","token":"%b","x":%d.5,"y":%d}]'
JOINED = b"430["


class SocketIoPlayer(Player):
    """Socket.IO's protocol 5 over Engine.IO's 4, on a WebSocket from the start; moves are events that ask to be answered."""

    upgrade = (
        b"GET /socket.io/?EIO=4&transport=websocket&room=%b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )

    def switched(self) -> None:
        """The server speaks first."""

    def move(self, number: int) -> None:
        """See Player."""
        if not self.listening:
            self._seen.error("A move was due while its player was not connected.")
            return
        name = self._crowd.named_from + number
        place = (name // len(self._crowd.players) % 28, self.number % 18)
        self.send(MOVE % (FIRST_ID + number, self._room, name, self._piece, *place))

    def received(self, data: bytes, start: int, stop: int, now: float) -> None:
        """One packet, recognized by its first characters."""
        if data.startswith(b'42["push",', start):
            found = data.find(b'"id":"m', start, stop)
            name = int(data[found + 7 : data.find(b'"', found + 7, stop)])
            self.told(
                name - self._crowd.named_from,
                int(data[data.rfind(b":", found, stop) + 1 : stop - 3]),
                now,
            )
        elif data.startswith(JOINED, start):
            self._offset = int(data[start + len(JOINED) : stop - 1])
            self.listening = True
            self.ready.set_result(None)
        elif data.startswith(b"43", start):
            bracket = data.find(b"[", start, stop)
            move = int(data[start + 2 : bracket]) - FIRST_ID
            self.answered(move, int(data[bracket + 1 : stop - 1]), now)
        elif data.startswith(b"40", start):
            self.send(b'420["join","%b"]' % self._room)
        elif data.startswith(b"0", start):
            self.send(b"40")
        elif data.startswith(b"2", start):
            self.send(b"3")
        else:
            self._seen.error(data[start:stop].decode("utf-8", "replace"))

    def told(self, move: int, offset: int, now: float) -> None:
        """Of a move, with its number in the room."""
        self.arrived(move, offset, now)


class UnorderedPlayer(SocketIoPlayer):
    """The same where several processes number a room's moves, each for itself, so that numbers say nothing."""

    def told(self, move: int, offset: int, now: float) -> None:
        """See SocketIoPlayer."""
        self.arrived(move, self._offset + 1, now)


def seats(users: int, room_size: int) -> list[Seat]:
    """Places for all. Nobody has to be let in, and names are as long as ours, so that frames are."""
    return [Seat("", f"{number // room_size:016}", f"{number:016}") for number in range(users)]

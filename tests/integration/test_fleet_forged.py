"""What is said on the bus by somebody who is none of the instances, or by one that has gone wrong and knows their secret."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from tableforge.bus.redis import Seal
from tableforge.protocol.bus_messages import EventsHappened, LiveSignal, Message, encode_message
from tests.fleet import ADMIN_TOKEN, fleet
from tests.integration.raw_client import Raw, table
from tests.server_process import ServerProcess

Say = Callable[[str, Message | bytes], None]


@pytest.fixture
def say(redis_url: str, redis_db: int) -> Iterator[Say]:
    """Say something on a room's channel that an instance hears."""
    with Redis.from_url(redis_url) as client:

        def publish(room: str, message: Message | bytes) -> None:
            content = message if isinstance(message, bytes) else encode_message(message)
            channel = f"tableforge:{redis_db}:room:{room}".encode()
            assert client.publish(channel, Seal(ADMIN_TOKEN).on(channel, content))

        yield publish


@pytest.fixture
def server(
    tmp_path: Path, database_url: str, redis_url: str, redis_db: int
) -> Iterator[ServerProcess]:
    with fleet(tmp_path, database_url, redis_url, 1, REDIS_PUB_SUB_DB=str(redis_db)) as made:
        yield made.instances[0]


async def test_a_signal_is_not_shown_by_whoever_does_not_know_yet_what_its_sender_knew(
    server: ServerProcess, say: Say
) -> None:
    room, (mara, bo) = await table(server, "Bo")
    async with Raw(server, bo.token) as raw:
        await raw.subscribe(f"room:{room}:live")
        head = mara.http.get(f"/api/rooms/{room}/snapshot").json()["offset"]
        for at, letters in ((head + 1, "too new"), (head, "seen")):
            data = json.dumps({"type": "typing"}).encode()
            say(room, LiveSignal("elsewhere", letters, mara.id, "Mara", "gm", at, data))
        await raw.wait_until(lambda: any("pub" in one for one in raw.pushes))
        shown = [one["pub"]["info"]["client"] for one in raw.pushes if "pub" in one]
        assert shown == ["seen"]


async def test_what_is_no_message_changes_nothing(server: ServerProcess, say: Say) -> None:
    room, (mara,) = await table(server)
    async with Raw(server, mara.token) as raw:
        begun = await raw.subscribe(f"room:{room}")
        head, epoch = begun["offset"], begun["epoch"]
        happened = EventsHappened("x", 0.0, epoch, head + 1, 1, (b"{}",))
        for nonsense in (
            b"",
            b"\xc1",
            b"x" * 1_000_000,
            b"\x91" * 100_000,
            encode_message(happened)[:-1],
            msgspec.msgpack.encode(["e", "x", "not a time", epoch, head + 1, 1, [b"{}"]]),
            msgspec.msgpack.encode(["e", "x", 0.0, epoch, -(2**62), 1, [b"{}"]]),
            msgspec.msgpack.encode(["e", "x", 0.0, epoch, 2**64 - 1, 1, [b"{}"]]),
            msgspec.msgpack.encode(["s", "x", "c", mara.id, "Mara", "gm", 0, b"[" * 100_000]),
            msgspec.msgpack.encode(
                ["s", "x", "c", "nobody", "Mara", "gm", 0, b'{"type":"typing"}']
            ),
            msgspec.msgpack.encode(["tag of a later release", "x"]),
        ):
            say(room, nonsense)
        said = await raw.command(room, "chat.say", text="still here")
        assert said["offset"] == head + 1
        heard = await raw.wait_for_offset(room, head + 1)
        assert [one["data"]["text"] for one in heard] == ["still here"]
        assert raw.closed is None


async def test_an_event_that_never_was_is_found_out(server: ServerProcess, say: Say) -> None:
    room, (mara,) = await table(server)
    async with Raw(server, mara.token) as raw:
        begun = await raw.subscribe(f"room:{room}")
        head, epoch = begun["offset"], begun["epoch"]
        forged = json.dumps(
            {
                "type": "chat.said",
                "by": mara.id,
                "at": "2030-01-01T00:00:00.000Z",
                "id": "f",
                "text": "x",
            }
        ).encode()
        say(room, EventsHappened("liar", 0.0, epoch, head + 1, 1, (forged,)))
        # The log is asked now and then: it ends before what is held, so everybody begins anew.
        await raw.wait_until(
            lambda: any(one.get("unsubscribe", {}).get("code") == 2502 for one in raw.pushes)
        )
        again = await raw.subscribe(f"room:{room}", recover=True, offset=head + 1, epoch=epoch)
        assert again["offset"] == head
        assert not again.get("recovered")
        assert "x" not in [line.get("text") for line in again["data"]["room"]["chat"]]


async def test_whoever_has_no_more_than_redis_is_not_believed(
    server: ServerProcess, redis_url: str, redis_db: int
) -> None:
    room, (mara, bo) = await table(server, "Bo")
    async with Raw(server, bo.token) as raw:
        begun = await raw.subscribe(f"room:{room}")
        promoted = json.dumps(
            {
                "type": "member.changed",
                "by": mara.id,
                "at": "",
                "id": "f",
                "user": bo.id,
                "role": "gm",
            }
        ).encode()
        forged = EventsHappened("x", 0.0, begun["epoch"], begun["offset"] + 1, 1, (promoted,))
        with Redis.from_url(redis_url) as client:
            assert client.publish(f"tableforge:{redis_db}:room:{room}", encode_message(forged))
        said = await raw.command(room, "chat.say", text="am I the master now?")
        heard = await raw.wait_for_offset(room, said["offset"])
        assert [one["data"]["type"] for one in heard] == ["chat.said"]
        refused = await raw.command(room, "scene.create", name="mine", width=5, height=5)
        assert refused["code"] in (400, 403)
        assert not any("unsubscribe" in one for one in raw.pushes)

"""The wire protocol by hand: what each command is answered, and what ends a connection (rules GW of `docs/spec.md`)."""

import asyncio
import json
import socket
import struct
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.raw_client import Raw, people, table
from tests.server_process import ServerProcess, running


async def test_gw1_several_commands_in_one_frame_are_answered_in_order(
    server: ServerProcess,
) -> None:
    room, (gm,) = await table(server)
    async with Raw(server) as raw:
        lines = [
            {"id": 1, "connect": {"token": gm.token}},
            {"id": 2, "subscribe": {"channel": f"room:{room}"}},
            {"id": 3, "presence_stats": {"channel": f"room:{room}"}},
            {"id": 4, "ping": {}},
        ]
        await raw.wire.send("\n".join(map(json.dumps, lines)) + "\n")
        await raw.wait_until(lambda: 4 in raw.replies)
        assert list(raw.replies) == [1, 2, 3, 4]
        assert raw.replies[1]["connect"]["ping"] == 10
        assert raw.replies[1]["connect"]["pong"] is True
        assert raw.replies[3]["presence_stats"] == {"num_clients": 1, "num_users": 1}


async def test_gw2_subscribe_carries_the_snapshot_of_its_reader(server: ServerProcess) -> None:
    room, (gm, player) = await table(server, "Ilse")
    await asyncio.to_thread(gm.command, room, "token.add", name="Mimic", x=1, y=1, hidden=True)
    async with Raw(server, gm.token) as mine, Raw(server, player.token) as theirs:
        full = await mine.subscribe(f"room:{room}")
        seen = await theirs.subscribe(f"room:{room}")
        assert full["recoverable"] is full["positioned"] is True
        assert (full["offset"], full["epoch"]) == (full["data"]["offset"], full["data"]["epoch"])
        assert [one["name"] for one in full["data"]["room"]["tokens"]] == ["Mimic"]
        assert seen["data"]["room"]["tokens"] == []
        assert seen["offset"] == full["offset"]
        assert "Mimic" not in json.dumps(seen)


async def test_gw3_recovery_is_whole_or_refused(server: ServerProcess) -> None:
    room, (gm,) = await table(server)
    for number in range(5):
        await asyncio.to_thread(gm.command, room, "chat.say", text=f"line {number}")
    async with Raw(server, gm.token) as raw:
        head = await raw.subscribe(f"room:{room}")
    epoch, top = head["epoch"], head["offset"]

    async def recover(offset: int, epoch: str, flag: int = 0) -> dict[str, Any]:
        async with Raw(server, gm.token) as raw:
            return await raw.call(
                subscribe={
                    "channel": f"room:{room}",
                    "recover": True,
                    "offset": offset,
                    "epoch": epoch,
                    "flag": flag,
                }
            )

    for offset in (1, top - 1, top):
        result = (await recover(offset, epoch))["subscribe"]
        assert result["was_recovering"] is result["recovered"] is True
        assert result["offset"] == offset
        assert [one["offset"] for one in result.get("publications", [])] == list(
            range(offset + 1, top + 1)
        )
        assert "data" not in result
    for offset, life in ((top + 1, epoch), (1, "another")):
        result = (await recover(offset, life))["subscribe"]
        assert result["was_recovering"] is True
        assert "recovered" not in result
        assert "publications" not in result
        assert result["offset"] == result["data"]["offset"] == top
    assert (await recover(1, "another", flag=3))["error"]["code"] == 112


async def test_gw4_events_reach_all_others_once_and_in_order(server: ServerProcess) -> None:
    room, (gm, one, two) = await table(server, "Ilse", "Tomas")
    async with (
        Raw(server, gm.token) as a,
        Raw(server, one.token) as b,
        Raw(server, two.token) as c,
    ):
        for raw in (a, b, c):
            await raw.subscribe(f"room:{room}")
        said = await asyncio.gather(
            *(
                raw.command(room, "chat.say", text=f"{number}")
                for number in range(20)
                for raw in (a, b, c)
            )
        )
        offsets = sorted(one["offset"] for one in said)
        assert offsets == list(range(offsets[0], offsets[0] + 60))
        seen = [await raw.wait_for_offset(room, offsets[-1]) for raw in (a, b, c)]
        assert [pub["offset"] for pub in seen[0]] == offsets
        assert seen[0] == seen[1] == seen[2]


async def test_gw5_whispers_and_hidden_rolls_never_leave_for_others(server: ServerProcess) -> None:
    room, (gm, one, two) = await table(server, "Ilse", "Tomas")
    async with (
        Raw(server, gm.token) as a,
        Raw(server, one.token) as b,
        Raw(server, two.token) as c,
    ):
        for raw in (a, b, c):
            await raw.subscribe(f"room:{room}")
        await b.command(room, "chat.say", text="the brass key", to=[two.id])
        rolled = await b.command(room, "dice.roll", expression="d20+7", visibility="self")
        assert rolled["result"]["total"] >= 8
        for_gm = await a.wait_for_offset(room, rolled["offset"])
        for_two = await c.wait_for_offset(room, rolled["offset"])
        assert for_gm[0]["data"] == {"type": "hidden"}
        assert set(for_gm[1]["data"]) == {"type", "by", "at", "id", "visibility"}
        assert for_two[0]["data"]["text"] == "the brass key"
        history = await a.call(history={"channel": f"room:{room}", "limit": 100})
        assert "brass" not in json.dumps(history)
        assert [pub["data"] for pub in history["history"]["publications"]][-2:] == [
            pub["data"] for pub in for_gm
        ]


async def test_gw6_history_forward_and_backward(server: ServerProcess) -> None:
    room, (gm,) = await table(server)
    for number in range(5):
        await asyncio.to_thread(gm.command, room, "chat.say", text=f"line {number}")
    channel = f"room:{room}"
    async with Raw(server, gm.token) as raw:
        top = (await raw.subscribe(channel))["offset"]

        async def history(**more: Any) -> list[int]:
            reply = await raw.call(history={"channel": channel, **more})
            assert reply["history"]["offset"] == top
            return [one["offset"] for one in reply["history"]["publications"]]

        assert await history() == []
        assert await history(limit=2) == [1, 2]
        assert await history(limit=-1) == list(range(1, top + 1))
        assert await history(limit=2, since={"offset": 3}) == [4, 5]
        assert await history(limit=2, reverse=True) == [top, top - 1]
        assert await history(limit=9, reverse=True, since={"offset": 3}) == [2, 1]
        wrong = {"channel": channel, "limit": 1, "since": {"offset": 1, "epoch": "another"}}
        assert (await raw.call(history=wrong))["error"]["code"] == 112
        at_zero = {"channel": channel, "limit": 1, "reverse": True, "since": {"offset": 0}}
        assert (await raw.call(history=at_zero))["error"]["code"] == 107


async def test_gw7_join_and_leave_are_told_to_those_who_asked(server: ServerProcess) -> None:
    room, (gm, player) = await table(server, "Ilse")
    channel = f"room:{room}"
    async with Raw(server, gm.token) as a:
        await a.subscribe(channel, join_leave=True)
        async with Raw(server, player.token) as b:
            await b.subscribe(channel)
            presence = (await a.call(presence={"channel": channel}))["presence"]["presence"]
            assert {one["user"]: one["chan_info"] for one in presence.values()} == {
                gm.id: {"role": "gm"},
                player.id: {"role": "player"},
            }
            await b.call(unsubscribe={"channel": channel})
            assert (await b.call(unsubscribe={"channel": channel}))["unsubscribe"] == {}
        await a.wait_until(lambda: any("leave" in one for one in a.pushes))
        told = [
            (kind, one[kind]["info"]["user"], one[kind]["info"]["conn_info"])
            for one in a.pushes
            for kind in ("join", "leave")
            if kind in one
        ]
        assert told == [
            ("join", gm.id, {"name": "Mara"}),
            ("join", player.id, {"name": "Ilse"}),
            ("leave", player.id, {"name": "Ilse"}),
        ]
        assert not any("join" in one for one in b.pushes)


async def test_gw8_live_signals_go_to_the_others_who_may_see_what_they_are_about(
    server: ServerProcess,
) -> None:
    room, (gm, one, two) = await table(server, "Ilse", "Tomas")
    hidden = (
        await asyncio.to_thread(gm.command, room, "token.add", name="Mimic", x=1, y=1, hidden=True)
    ).json()["result"]["id"]
    live = f"room:{room}:live"
    async with (
        Raw(server, gm.token) as a,
        Raw(server, one.token) as b,
        Raw(server, two.token) as c,
    ):
        for raw in (a, b, c):
            await raw.subscribe(live)
        await a.call(
            publish={
                "channel": live,
                "data": {"type": "drag", "moves": [{"token": hidden, "x": 1, "y": 1}]},
            }
        )
        await b.call(publish={"channel": live, "data": {"type": "typing", "to": [two.id]}})
        await b.call(publish={"channel": live, "data": {"type": "cursor", "x": 2.5, "y": 3}})
        await c.wait_until(lambda: len(c.pushes) >= 2)
        await a.wait_until(lambda: len(a.pushes) >= 1)
        assert [one["pub"]["data"]["type"] for one in c.pushes] == ["typing", "cursor"]
        assert c.pushes[1]["pub"]["info"]["user"] == one.id
        assert [one["pub"]["data"]["type"] for one in a.pushes] == ["cursor"]
        assert b.pushes == []
        refused = await b.call(publish={"channel": live, "data": {"type": "cursor", "x": "far"}})
        assert refused["error"]["code"] == 107
        room_channel = await b.call(publish={"channel": f"room:{room}", "data": {}})
        assert room_channel["error"]["code"] == 103


async def test_gw9_strangers_learn_nothing_of_a_room(server: ServerProcess) -> None:
    room, _ = await table(server)
    (stranger,) = await people(server, "Nobody")
    async with Raw(server, stranger.token) as raw:
        answers = [
            (await raw.call(subscribe={"channel": f"room:{name}"}))["error"]
            for name in (room, "there-is-none")
        ]
        assert answers[0] == answers[1]
        assert answers[0]["code"] == 103
        refused = [
            await raw.command(name, "chat.say", text="hi") for name in (room, "there-is-none")
        ]
        assert refused[0] == refused[1]
        assert (refused[0]["code"], refused[0]["message"]) == (404, "not-found")


async def test_gw10_a_command_is_carried_out_once(server: ServerProcess) -> None:
    room, (gm,) = await table(server)
    async with Raw(server, gm.token) as raw:

        async def say(text: str) -> dict[str, Any]:
            data = {"room": room, "id": "same", "type": "chat.say", "text": text}
            reply = await raw.call(rpc={"method": "room.command", "data": data})
            outcome: dict[str, Any] = reply.get("rpc") or reply["error"]
            return outcome

        first = await say("once")
        assert await say("once") == first
        twice = await say("twice")
        assert (twice["code"], twice["message"]) == (409, "idempotency-mismatch")
        both = await asyncio.gather(*(raw.command(room, "undo") for _ in range(2)))
        assert [one["message"] for one in both] == ["nothing-to-undo"] * 2
        events = await asyncio.to_thread(gm.http.get, f"/api/rooms/{room}/events")
        assert [one["event"]["type"] for one in events.json()["events"]].count("chat.said") == 1


async def test_gw11_refusals_say_what_why_and_mend_and_change_nothing(
    server: ServerProcess,
) -> None:
    room, (gm,) = await table(server)
    async with Raw(server, gm.token) as raw:
        before = await asyncio.to_thread(gm.http.get, f"/api/rooms/{room}/snapshot")
        for body, code, words in (
            ({"type": "token.move", "token": "none", "x": 1, "y": 1}, 404, ""),
            ({"type": "token.fly"}, 400, "token.fly"),
            ({"type": "token.add", "name": "", "x": 0, "y": 0}, 400, "name"),
            ({"type": "token.add", "name": "x", "x": 1e9, "y": 0}, 400, "$.x"),
            ({"type": "chat.say", "text": "a\u0000b"}, 400, "control characters"),
            ({"type": "dice.roll", "expression": "2d"}, 400, "position"),
        ):
            data = {"room": room, "id": "x", **body}
            error = (await raw.call(rpc={"method": "room.command", "data": data}))["error"]
            assert error["code"] == code, error
            assert words in error["detail"] or words == "position", error
        assert (await raw.call(rpc={"method": "no.such", "data": {}}))["error"]["code"] == 104
        after = await asyncio.to_thread(gm.http.get, f"/api/rooms/{room}/snapshot")
        assert after.json() == before.json()


async def test_gw12_who_is_kicked_or_loses_a_role_is_taken_off_at_once(
    server: ServerProcess,
) -> None:
    room, (gm, one) = await table(server, "Ilse")
    channel = f"room:{room}"
    async with Raw(server, gm.token) as a, Raw(server, one.token) as b:
        start = await b.subscribe(channel)
        await b.subscribe(f"{channel}:live")
        changed = await a.command(room, "member.role", user=one.id, role="spectator")
        await b.wait_until(lambda: any("unsubscribe" in push for push in b.pushes))
        assert [push["unsubscribe"]["code"] for push in b.pushes if "unsubscribe" in push] == [2502]
        again = await b.subscribe(
            channel, recover=True, offset=start["offset"], epoch=start["epoch"]
        )
        assert "recovered" not in again
        assert again["data"]["room"]["me"]["role"] == "spectator"
        later = await b.call(unsubscribe={"channel": channel})
        assert later["unsubscribe"] == {}
        since = await b.subscribe(
            channel, recover=True, offset=changed["offset"], epoch=start["epoch"]
        )
        assert since["recovered"] is True
        for place in (channel, f"{channel}:live"):
            if place != channel:
                await a.subscribe(place)
            infos = (await b.call(presence={"channel": place}))["presence"]["presence"]
            roles = {one["user"]: one["chan_info"]["role"] for one in infos.values()}
            assert roles[one.id] == "spectator"
        await a.command(room, "member.kick", user=one.id)
        await b.wait_until(
            lambda: (
                [push["unsubscribe"]["code"] for push in b.pushes if "unsubscribe" in push]
                == [2502, 2000, 2000]
            )
        )
        assert (await b.call(subscribe={"channel": channel}))["error"]["code"] == 103
        assert (await b.command(room, "chat.say", text="still here"))["code"] == 404


async def test_gw13_signing_out_closes_every_connection_of_the_session(
    server: ServerProcess,
) -> None:
    (person,) = await people(server, "Mara")
    async with Raw(server, person.token) as raw, Raw(server, person.token) as other:
        await asyncio.to_thread(person.http.delete, "/api/session")
        assert (await raw.wait_for_close())[0] == 3500
        assert (await other.wait_for_close())[0] == 3500
    async with Raw(server) as raw:
        await raw.wire.send(json.dumps({"id": 1, "connect": {"token": person.token}}))
        assert await raw.wait_for_close() == (3500, "invalid token")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("{bad", "malformed frame"),
        ("", "malformed frame"),
        ("[]", "malformed frame"),
        ('{"id":1,"connect":{"token":1}}', "malformed frame"),
        ('{"id":1,"subscribe":{"channel":"x"}}', "connect comes first"),
        ('{"connect":{}}', "a command needs an id"),
        ("x" * 70_000, "message over 65536 bytes"),
        (b"\x00\x01", "text frames only"),
    ],
)
async def test_gw14_frames_that_make_no_sense_end_the_connection(
    server: ServerProcess, message: str | bytes, why: str
) -> None:
    async with Raw(server) as raw:
        await raw.wire.send(message)
        assert await raw.wait_for_close() == (3501, why)


async def test_gw14_what_is_not_utf_8_ends_the_connection(server: ServerProcess) -> None:
    (person,) = await people(server, "Mara")
    for payload in (b'{"id":2,"rpc":{"method":"\xff\xfe"}}', b"\xff"):
        async with Raw(server, person.token) as raw:
            await raw.wire.send(payload, text=True)
            assert (await raw.wait_for_close())[0] == 3501


async def test_gw15_fragments_are_one_message(server: ServerProcess) -> None:
    (person,) = await people(server, "Mara")
    async with Raw(server, person.token) as raw:
        text = json.dumps({"id": 99, "ping": {}})
        await raw.wire.send([text[:5], text[5:9], text[9:]])
        await raw.wait_until(lambda: 99 in raw.replies)
        assert raw.replies[99] == {"id": 99, "ping": {}}
        await raw.wire.send(["x" * 40_000, "y" * 40_000])
        assert await raw.wait_for_close() == (3501, "message over 65536 bytes")


async def test_gw15_empty_fragments_do_not_keep_the_server_busy(server: ServerProcess) -> None:
    def flood() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
            wire.sendall(handshake(server))
            wire.recv(4096)
            wire.sendall(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 5_000)
            got = b""
            while more := wire.recv(65_536):
                got += more
            return got

    answer = await asyncio.to_thread(flood)
    assert struct.unpack("!H", answer[2:4]) == (3501,)
    assert b"fragments" in answer


async def test_gw15_frames_are_cut_anywhere_by_the_network(server: ServerProcess) -> None:
    (person,) = await people(server, "Mara")
    frames = [{"id": 1, "connect": {"token": person.token}}] + [
        {"id": number, "ping": {}} for number in range(2, 60)
    ]
    sent = b"".join(masked(json.dumps(one).encode()) for one in frames)

    def drip() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.sendall(handshake(server))
            assert b" 101 " in wire.recv(4096)
            step = 1
            at = 0
            while at < len(sent):
                wire.sendall(sent[at : at + step])
                at, step = at + step, step % 23 + 1
            got = b""
            while b'"id":59,' not in got:
                more = wire.recv(65_536)
                assert more, got
                got += more
            return got

    got = await asyncio.to_thread(drip)
    assert [got.count(b'{"id":%d,' % number) for number in range(1, 60)] == [1] * 59


async def test_gw16_an_unmasked_frame_is_refused(server: ServerProcess) -> None:
    def send() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
            wire.sendall(handshake(server))
            wire.recv(4096)
            wire.sendall(b"\x81\x02{}")
            return wire.recv(4096)

    answer = await asyncio.to_thread(send)
    assert answer[0] == 0x88
    assert struct.unpack("!H", answer[2:4]) == (3501,)


async def test_gw17_handshakes_from_elsewhere_are_refused(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with Raw(server, origin="http://evil.example"):
            pass
    assert refused.value.response.status_code == 403

    def ask(path: str, host: str) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
            wire.sendall(handshake(server, path=path, host=host))
            return wire.recv(4096).split(b"\r\n", 1)[0]

    assert b" 421 " in await asyncio.to_thread(ask, "/ws", "rebound.example")
    assert b" 404 " in await asyncio.to_thread(ask, "/elsewhere", f"127.0.0.1:{server.port}")
    assert b" 101 " in await asyncio.to_thread(ask, "/ws", f"localhost:{server.port}")


async def test_gw18_a_browsers_cookie_is_enough_with_its_origin(server: ServerProcess) -> None:
    (person,) = await people(server, "Mara")
    cookie = f"theme=dark; tableforge_session={person.token}"
    async with Raw(server, origin=server.url, cookie=cookie) as raw:
        assert "connect" in await raw.call(connect={})
    async with Raw(server, cookie=cookie) as raw:
        await raw.wire.send('{"id":1,"connect":{}}')
        assert (await raw.wait_for_close())[0] == 3500


async def test_gw19_refresh_keeps_the_user(server: ServerProcess) -> None:
    person, other = await people(server, "Mara", "Ilse")
    async with Raw(server, person.token) as raw:
        refreshed = (await raw.call(refresh={"token": person.token}))["refresh"]
        assert refreshed["expires"] is True
        assert refreshed["ttl"] > 0
        await raw.wire.send(json.dumps({"id": 50, "refresh": {"token": other.token}}))
        assert (await raw.wait_for_close())[0] == 3500


async def test_gw20_protobuf_is_refused_for_good(server: ServerProcess) -> None:
    from websockets.asyncio.client import connect
    from websockets.typing import Subprotocol

    async with connect(server.websocket, subprotocols=[Subprotocol("centrifuge-protobuf")]) as wire:
        await wire.wait_closed()
        assert wire.subprotocol == "centrifuge-protobuf"
        assert wire.close_code == 3506
        assert wire.close_reason


async def test_gw21_silence_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("impatient")
    with running(
        folder, WS_PING_SECONDS="1", WS_PONG_SECONDS="2", WS_CONNECT_TIMEOUT_SECONDS="1"
    ) as server:
        (person,) = await people(server, "Mara")
        async with Raw(server) as mute:
            assert (await mute.wait_for_close())[0] == 3502
        async with (
            Raw(server, person.token, answers_pings=False) as dead,
            Raw(server, person.token) as alive,
        ):
            assert (await dead.wait_for_close())[0] == 3012
            await alive.wait_until(lambda: alive.pings >= 3)


async def test_gw22_a_client_that_does_not_read_is_cut_and_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(
        tmp_path_factory.mktemp("slow"), WS_BUFFER_BYTES="65536", LIMIT_COMMANDS="0"
    ) as server:
        room, (gm, slow) = await table(server, "Wen")
        async with Raw(server, gm.token) as a:
            await a.subscribe(f"room:{room}")
            async with Raw(server, slow.token) as b:
                start = await b.subscribe(f"room:{room}")
                b.wire.transport.pause_reading()
                text = "x" * 3_900
                last = 0
                for _ in range(400):
                    last = (await a.command(room, "chat.say", text=text))["offset"]
                await a.wait_for_offset(room, last)
                stats = (await a.call(presence_stats={"channel": f"room:{room}"}))["presence_stats"]
                assert stats["num_clients"] == 1
                b.wire.transport.resume_reading()
                code, _ = await b.wait_for_close()
                assert code in {3008, 1006}
                seen = [one["offset"] for one in b.events(room)]
                assert seen == list(range(start["offset"] + 1, start["offset"] + 1 + len(seen)))
            async with Raw(server, slow.token) as again:
                offset = seen[-1] if seen else start["offset"]
                rest = await again.subscribe(
                    f"room:{room}", recover=True, offset=offset, epoch=start["epoch"]
                )
                assert rest["recovered"] is True
                assert [one["offset"] for one in rest["publications"]] == list(
                    range(offset + 1, last + 1)
                )


async def test_gw22_a_snapshot_larger_than_the_outbox_reaches_a_slow_reader(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(
        tmp_path_factory.mktemp("large"), WS_BUFFER_BYTES="65536", LIMIT_COMMANDS="0"
    ) as server:
        room, (gm, slow) = await table(server, "Wen")
        async with Raw(server, gm.token) as a:
            for _ in range(100):
                await a.command(room, "chat.say", text="x" * 3_900)
        async with Raw(server, slow.token) as b:
            b.wire.transport.pause_reading()
            number = b.next_id()
            request = {"id": number, "subscribe": {"channel": f"room:{room}"}}
            await b.wire.send(json.dumps(request))
            await asyncio.to_thread(gm.command, room, "chat.say", text="meanwhile")
            b.wire.transport.resume_reading()
            await b.wait_until(lambda: number in b.replies)
            assert len(b.replies[number]["subscribe"]["data"]["room"]["chat"]) == 100
            assert b.closed is None


async def test_gw23_too_many_commands_are_refused_for_a_moment(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(
        tmp_path_factory.mktemp("limited"), LIMIT_COMMANDS="1", LIMIT_COMMANDS_BURST="3"
    ) as server:
        room, (gm,) = await table(server)
        async with Raw(server, gm.token) as raw:
            answers = [await raw.command(room, "chat.say", text="hi") for _ in range(6)]
            refused = [one for one in answers if one.get("code") == 429]
            assert refused
            assert all(one["temporary"] for one in refused)
            assert refused[0]["message"] == "too-many"


async def test_gw24_shutdown_sends_everybody_away_with_a_code_that_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tmp_path_factory.mktemp("stopped")) as server:
        (person,) = await people(server, "Mara")
        async with Raw(server, person.token) as raw:
            stopped = asyncio.create_task(asyncio.to_thread(server.stop))
            assert await raw.wait_for_close() == (3001, "shutdown")
        assert await stopped == 0


def handshake(server: ServerProcess, *, path: str = "/ws", host: str | None = None) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{server.port}'}\r\nUpgrade: websocket\r\n"
        "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked(payload: bytes) -> bytes:
    """A client's text frame under a mask that changes every byte."""
    mask = b"\x11\x22\x33\x44"
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + struct.pack("!H", size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

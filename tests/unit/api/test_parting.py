"""Who is sent away is not cut off from an answer: the close comes behind it."""

from collections.abc import Iterator

import pytest

from tests.machines.session_world import Client, World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def client(world: World) -> Client:
    [made, *_] = world.clients.values()
    world.do(lambda: made.connect(world.server))
    return made


def asks_to_part(
    world: World, client: Client, parted: list[int], lively_seconds: float = 5.0
) -> bool:
    """Whether it may go at once; else `parted` has how many frames had been written when it was to go."""
    found: list[bool] = []

    def ask() -> None:
        assert client.conversation is not None
        found.append(
            client.conversation.at_rest(
                lambda: parted.append(len(client.line.frames)), lively_seconds
            )
        )

    world.do(ask)
    return found[0]


def say(world: World, client: Client, number: int) -> None:
    command = {"room": world.room, "id": f"c{number}", "type": "chat.say", "text": "on my way"}
    world.do(lambda: client.command(command))


def test_who_asked_for_nothing_goes_at_once(world: World, client: Client) -> None:
    assert asks_to_part(world, client, [])


def test_who_waits_for_an_answer_goes_behind_it(world: World, client: Client) -> None:
    parted: list[int] = []
    say(world, client, 1)
    say(world, client, 2)
    before = len(client.line.frames)
    assert not asks_to_part(world, client, parted)
    world.do(lambda: world.log.commit(1))
    assert parted == []
    world.do(lambda: world.log.commit(1))
    assert len(parted) == 1
    assert parted[0] > before
    assert len(client.line.frames) == parted[0]


def test_who_was_just_answered_goes_behind_the_next_answer(world: World, client: Client) -> None:
    parted: list[int] = []
    say(world, client, 1)
    world.do(lambda: world.log.commit(1))
    assert not asks_to_part(world, client, parted)
    say(world, client, 2)
    assert parted == []
    world.do(lambda: world.log.commit(1))
    assert len(parted) == 1
    assert asks_to_part(world, client, parted, lively_seconds=0.0)

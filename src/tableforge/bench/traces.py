"""What is asked of caches, made from a seed: an evening of TableForge, and the loads by which caches are commonly compared.

The evening (`evening`) is that of one instance whose regions have their default sizes. Of 1500 users 900 are there at a time,
and others come for those who go. Who comes asks for their session and the list of their rooms and enters one of 600 rooms,
which are as popular as Zipf says (exponent 0.9); a room that nobody is in brings its snapshot and its game system; and each
of the fifteen pictures of its scene is fetched, a session and a picture's row each time. Pictures are shared by rooms of one
of twelve game systems, 400 each, after Zipf again. While they play they fetch pictures, search (after Zipf), put other
pictures up, which all in the room fetch, and change things, which takes the lists of all members, or a session, out of the
cache. After every 40 000 steps four of five lose their connection and come back at once (a reconnect storm): each asks for
their session, and for nothing else, since rooms stay in memory and pictures in browsers. What is asked over sockets costs no
look-up and is not in it.

The others: popularity after Zipf; the same with scans in between; loops longer than the cache; loops mixed with Zipf; index
pages and records in turn (O'Neil, O'Neil and Weikum, SIGMOD 1993, which is also LIRS' trace `2_pools`); a zigzag over more
than fits (LIRS' `zigzag`; Jiang and Zhang, SIGMETRICS 2002); values that are asked for soon again or never; each value
twice; popularity that drifts; and phases of all of these one after the other, to which a cache has to adapt.
"""

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice
from random import Random
from typing import Final, NamedTuple

ONE: Final = "values"
"""The region of traces that know one alone."""
EVENING: Final = "evening"
ENTRIES: Final = 1_000


class Step(NamedTuple):
    """A key is asked for, or `dropped` because it changed."""

    region: str
    key: str
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Steps, and how many entries the cache of each region has."""

    name: str
    entries: Mapping[str, int]
    steps: Sequence[Step]


def traces(seed: int, length: int, evening_length: int) -> Iterator[Trace]:
    """All of them, so many steps each; the same for the same seed."""
    yield Trace(EVENING, EVENING_ENTRIES, list(islice(evening(seeded(seed)), evening_length)))
    for name, (entries, keys) in GENERATORS.items():
        made: dict[int, Step] = {}
        steps = [
            made.get(key) or made.setdefault(key, Step(ONE, f"key:{key}"))
            for key in islice(keys(seeded(f"{name} {seed}"), entries), length)
        ]
        yield Trace(name, {ONE: entries}, steps)


def seeded(seed: int | str) -> Random:
    """Chance that is the same for the same seed."""
    return Random(seed)  # noqa: S311 - a load, no secret


def zipf(random: Random, keys: int, exponent: float) -> Iterator[int]:
    """Numbers below `keys`; the chance of the n-th most popular one is in proportion to n to the power of -exponent."""
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(keys)))
    order = list(range(keys))
    random.shuffle(order)
    while True:
        yield order[min(bisect(weights, random.random() * weights[-1]), keys - 1)]


def popular(random: Random, entries: int) -> Iterator[int]:
    """Lasting popularity over twenty times of what fits."""
    return zipf(random, 20 * entries, 0.9)


def scans(random: Random, entries: int) -> Iterator[int]:
    """Popularity, and again and again a scan over three times of what fits."""
    asked = zipf(random, 5 * entries, 0.9)
    for start in count(10**9, 3 * entries):
        yield from islice(asked, 8 * entries)
        yield from range(start, start + 3 * entries)


def loop(random: Random, entries: int) -> Iterator[int]:
    """A loop a fifth longer than what fits."""
    length = entries * 6 // 5
    begin = random.randrange(length)
    return (number % length for number in count(begin))


def long_loop(random: Random, entries: int) -> Iterator[int]:
    """A loop of twice of what fits."""
    begin = random.randrange(entries)
    return (number % (2 * entries) for number in count(begin))


def popular_and_loop(random: Random, entries: int) -> Iterator[int]:
    """Popularity and a loop, half of each."""
    asked = zipf(random, 5 * entries, 1.0)
    for number in count():
        yield next(asked)
        yield 10**9 + number % (entries * 3 // 2)


def two_pools(random: Random, entries: int) -> Iterator[int]:
    """Index pages and records in turn: a few that are always needed, many that hardly are."""
    index = entries * 5 // 6
    while True:
        yield random.randrange(index)
        yield 10**9 + random.randrange(100 * index)


def zigzag(random: Random, entries: int) -> Iterator[int]:
    """To and fro over four times of what fits."""
    reach = 4 * entries
    for number in count(random.randrange(reach)):
        at = number % (2 * reach)
        yield at if at < reach else 2 * reach - 1 - at


def soon_again(random: Random, entries: int) -> Iterator[int]:
    """Three of ten are asked for the first time, the others again, mostly soon after."""
    recent: list[int] = []
    known = 0
    while True:
        if not recent or random.random() < 0.3:
            recent.append(known)
            yield known
            known += 1
        else:
            back = 1 + int(random.expovariate(3 / entries))
            yield recent[-min(back, len(recent))]
        if len(recent) > 20 * entries:
            del recent[: 10 * entries]


def twice(random: Random, entries: int) -> Iterator[int]:
    """Each is asked for once, and once again while it would still be there had everything been kept."""
    gap = entries * 2 // 5 - random.randrange(10)
    for number in count(gap):
        yield number
        yield number - gap


def drifting(random: Random, entries: int) -> Iterator[int]:
    """Popularity that moves on."""
    asked = zipf(random, 3 * entries, 0.9)
    for number in count():
        yield next(asked) + number // 20


def phases(random: Random, entries: int) -> Iterator[int]:
    """Popularity, a loop, soon again, a scan; over and over."""
    kinds = (popular, loop, soon_again, zigzag)
    for number in count():
        kind = kinds[number % len(kinds)]
        first = number % len(kinds) * 10**9
        yield from (first + key for key in islice(kind(random, entries), 15 * entries))


Keys = Callable[[Random, int], Iterator[int]]

GENERATORS: Final[Mapping[str, tuple[int, Keys]]] = {
    "zipf": (ENTRIES, popular),
    "zipf, small cache": (ENTRIES // 5, popular),
    "zipf and scans": (ENTRIES, scans),
    "loop": (ENTRIES, loop),
    "long loop": (ENTRIES, long_loop),
    "zipf and loop": (ENTRIES, popular_and_loop),
    "two pools": (ENTRIES // 5, two_pools),
    "zigzag": (ENTRIES // 2, zigzag),
    "soon again": (ENTRIES, soon_again),
    "twice": (ENTRIES, twice),
    "drifting zipf": (ENTRIES, drifting),
    "phases": (ENTRIES, phases),
}

# The evening

USERS: Final = 1_500
HERE: Final = 0.6
"""Of them are there at a time."""
LEAVING: Final = 0.05
"""How often somebody goes when another one would come."""
ROOMS: Final = 600
SYSTEMS: Final = 12
PICTURES: Final = 400
"""Of one game system: maps, pieces, cards."""
SCENE: Final = 15
"""Pictures that a room shows when it is entered."""
SEARCHES: Final = 300
STORM_AFTER: Final = 40_000
"""Steps between two reconnect storms, about."""
EVENING_ENTRIES: Final[Mapping[str, int]] = {
    "user_sessions": 1_000,
    "room_states": 100,
    "asset_metadata": 1_000,
    "game_system_templates": 1_000,
    "query_results": 1_000,
}


class Evening:
    """Who is there, and what each room shows."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.popular_room = zipf(random, ROOMS, 0.9)
        self.search = zipf(random, SEARCHES, 0.9)
        self.system = [random.randrange(SYSTEMS) for _ in range(ROOMS)]
        self.pictures = [zipf(random, PICTURES, 0.9) for _ in range(SYSTEMS)]
        self.scene = [
            list(islice(self.pictures[self.system[room]], SCENE)) for room in range(ROOMS)
        ]
        self.there: dict[int, int] = {}
        """Users who are connected, with their rooms."""
        self.live = [0] * ROOMS
        """How many of them are in each room; the server has rooms with any in memory."""
        self.members: list[set[int]] = [set() for _ in range(ROOMS)]

    def enter(self, user: int) -> Iterator[Step]:
        """Somebody comes, looks at their rooms and enters one."""
        room = next(self.popular_room)
        yield Step("user_sessions", f"user:{user}")
        yield Step("query_results", f"rooms_of:{user}")
        if user not in self.members[room]:
            self.members[room].add(user)
            yield Step("query_results", f"rooms_of:{user}", dropped=True)
        yield Step("user_sessions", f"user:{user}")
        if not self.live[room]:
            yield Step("room_states", f"room:{room}")
            yield Step("game_system_templates", f"system:{self.system[room]}")
        self.there[user] = room
        self.live[room] += 1
        for picture in self.scene[room]:
            yield from self.look_at(user, room, picture)

    def leave(self, user: int) -> None:
        """Somebody goes."""
        self.live[self.there.pop(user)] -= 1

    def look_at(self, user: int, room: int, picture: int) -> Iterator[Step]:
        """Somebody fetches a picture."""
        yield Step("user_sessions", f"user:{user}")
        yield Step("asset_metadata", f"asset:{self.system[room]}:{picture}")

    def play(self, user: int) -> Iterator[Step]:
        """Somebody moves, which concerns the lists that show the room, or fetches, looks for or changes something."""
        room = self.there[user]
        kind = self.random.random()
        if kind < 0.05:
            for member in sorted(self.members[room]):
                yield Step("query_results", f"rooms_of:{member}", dropped=True)
        elif kind < 0.7:
            yield from self.look_at(user, room, self.random.choice(self.scene[room]))
        elif kind < 0.97:
            yield Step("user_sessions", f"user:{user}")
            yield Step("query_results", f"search:{next(self.search)}")
        elif kind < 0.98:
            yield Step("user_sessions", f"user:{user}")
            yield Step("user_sessions", f"user:{user}", dropped=True)
        else:
            shown = next(self.pictures[self.system[room]])
            self.scene[room][self.random.randrange(SCENE)] = shown
            for other, where in list(self.there.items()):
                if where == room:
                    yield from self.look_at(other, room, shown)

    def storm(self) -> Iterator[Step]:
        """Most lose their connection and come back, in any order; their rooms stay in memory meanwhile."""
        came = [user for user in self.there if self.random.random() < 0.8]
        self.random.shuffle(came)
        for user in came:
            yield Step("user_sessions", f"user:{user}")


def evening(random: Random) -> Iterator[Step]:
    """See the module."""
    here = Evening(random)
    until_storm = STORM_AFTER
    while True:
        taken = 0
        user = random.randrange(USERS)
        if user in here.there:
            made = here.play(user)
        elif len(here.there) < HERE * USERS:
            made = here.enter(user)
        else:
            if random.random() < LEAVING:
                here.leave(random.choice(list(here.there)))
            continue
        for step in made:
            taken += 1
            yield step
        until_storm -= taken
        if until_storm <= 0:
            until_storm = STORM_AFTER
            yield from here.storm()

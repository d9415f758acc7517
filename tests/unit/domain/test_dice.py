"""What an expression comes to when the faces are known, and that a seed always gives the same faces."""

import json
from hashlib import blake2b
from itertools import product

import msgspec
import pytest

from tableforge.domain.dice import (
    MAX_EXPLOSIONS,
    MAX_REROLLS,
    MAX_RESULT,
    IllFormed,
    Roll,
    roll,
    roll_with,
)
from tableforge.errors import Conflict

SEED = b"sixteen bytes !!"


def thrown(expression: str, *faces: int) -> Roll:
    """A roll that must use exactly these faces; a fudge die's are 1 for minus, 2 for blank, 3 for plus."""
    left = list(faces)

    def draw(sides: int) -> int:
        face = left.pop(0)
        assert 1 <= face <= sides
        return face

    result = roll_with(expression, draw)
    assert left == []
    return result


def shown(result: Roll) -> list[str]:
    return [f"{die.value} {' '.join(die.fate)}" for die in result.dice]


@pytest.mark.parametrize(
    ("expression", "faces", "total"),
    [
        ("3d6", (1, 5, 6), 12),
        ("d20", (17,), 17),
        ("D20", (17,), 17),
        ("1d%", (100,), 100),
        ("d%", (1,), 1),
        ("4dF", (1, 2, 3, 3), 1),
        ("4df", (1, 1, 1, 2), -3),
        ("d1000000", (1_000_000,), 1_000_000),
        ("1000d1", (1,) * 1_000, 1_000),
        ("0d6", (), 0),
        ("2 d 6 kh 1", (3, 4), 4),
        # keep and drop
        ("4d6kh3", (2, 6, 1, 5), 13),
        ("4d6k3", (2, 6, 1, 5), 13),
        ("4d6KH3", (2, 6, 1, 5), 13),
        ("2d20kh", (3, 18), 18),
        ("2d20k", (3, 18), 18),
        ("2d20kl", (3, 18), 3),
        ("4d6kl2", (2, 6, 1, 5), 3),
        ("4d6dl1", (2, 6, 1, 5), 13),
        ("4d6dl", (2, 6, 1, 5), 13),
        ("4d6dh2", (2, 6, 1, 5), 3),
        ("4d6dl1dh1", (2, 6, 1, 5), 7),
        ("3d20kh2kl1", (4, 15, 9), 9),
        ("2d6kh5", (1, 2), 3),
        ("2d6kh0", (1, 2), 0),
        ("4d6dl5", (1, 2, 3, 4), 0),
        ("2d6dl0", (1, 2), 3),
        ("4dFkh1", (1, 2, 3, 1), 1),
        # explode, compound, penetrate
        ("2d6!", (6, 6, 1, 3), 16),
        ("2d6!>=5", (5, 6, 4, 1), 16),
        ("2d6!>5", (5, 6, 1), 12),
        ("1d6!<3", (2, 1, 3), 6),
        ("1d6!<>4", (1, 6, 4), 11),
        ("1d6!=1", (1, 1, 2), 4),
        ("1d6!3", (3, 3, 2), 8),
        ("1d6!!", (6, 6, 2), 14),
        ("1d6!!>=5", (5, 6, 2), 13),
        ("2d6!!kh1", (6, 1, 5), 7),
        ("1d6!p", (6, 6, 1), 11),
        ("1d6!P>4", (5, 5, 4), 12),
        ("1d6!p=1", (1, 1, 3), 3),
        ("1dF!", (3, 3, 2), 2),
        # reroll
        ("1d6r", (1, 1, 4), 4),
        ("1d6r<3", (1, 2, 2, 5), 5),
        ("1d6r<=3", (3, 4), 4),
        ("1d6r1", (1, 4), 4),
        ("1d6r<>6", (1, 2, 6), 6),
        ("1d6ro<3", (1, 2), 2),
        ("1d6RO<3", (1, 5), 5),
        ("1d6ro", (1, 1), 1),
        ("1d6ro<3", (3,), 3),
        ("1d6r1r3", (1, 3, 1, 2), 2),
        ("1d6r1ro2", (1, 2, 1, 2), 2),
        ("1d6ro1ro2", (1, 2, 1), 1),
        ("1dFr", (1, 1, 2), 0),
        ("1dFr<=-1", (1, 3), 1),
        # count
        ("6d10>=7", (7, 10, 6, 1, 9, 2), 3),
        ("6d10>7", (7, 10, 6, 1, 9, 2), 2),
        ("6d10<3", (7, 10, 6, 1, 9, 2), 2),
        ("6d10<=2", (7, 10, 6, 1, 9, 2), 2),
        ("6d10=6", (7, 10, 6, 1, 6, 2), 2),
        ("6d10<>6", (7, 10, 6, 1, 6, 2), 4),
        ("6d10>=7f1", (7, 10, 1, 1, 9, 2), 1),
        ("6d10>=7f", (7, 10, 1, 1, 9, 2), 1),
        ("6d10>=7F<=2", (7, 2, 1, 1, 9, 2), -2),
        ("6d10f1>=7", (7, 10, 1, 1, 9, 2), 1),
        ("3d6>=1f6", (6, 5, 1), 2),
        ("4dF>=0f<0", (1, 2, 3, 1), 0),
        ("4dF=-1", (1, 2, 3, 1), 2),
        ("10d6=-1", (1,) * 10, 0),
        # which comparison binds, and that order of writing does not matter
        ("3d10!>=9>=8", (9, 8, 3, 2), 2),
        ("3d10>=8!>=9", (9, 8, 3, 2), 2),
        ("3d10!>=8", (9, 8, 3, 2, 1), 23),
        ("2d10r<3>=8", (1, 8, 9), 2),
        ("2d6 kh1 !", (6, 2, 5), 6),
        ("2d6!kh1", (6, 2, 5), 6),
        ("2d6khr1", (1, 3, 2), 3),
        ("2d6r1kh", (1, 3, 2), 3),
        ("6d10!", (1, 2, 3, 4, 5, 6), 21),
        ("1d6!=6r", (1, 6, 2), 8),
        ("1d6r1!=6", (1, 6, 2), 8),
        # the sign after a bare modifier is arithmetic
        ("1d6r-1", (3,), 2),
        ("1d6!-1", (3,), 2),
        ("2d6kh-1", (3, 4), 3),
        ("2d6>=3-1", (3, 4), 1),
    ],
)
def test_pools(expression: str, faces: tuple[int, ...], total: int) -> None:
    assert thrown(expression, *faces).total == total


@pytest.mark.parametrize(
    ("expression", "total"),
    [
        ("1 + 3 * 6", 19),
        ("(1 + 3) * 6", 24),
        ("1 - 2 - 3", -4),
        ("1 - (2 - 3)", 2),
        ("24 / 4 / 2", 3),
        ("24 / (4 / 2)", 12),
        ("2 * 3 / 4", 1.5),
        ("+1", 1),
        ("-1", -1),
        ("--1", 1),
        ("-+-++---+1", -1),
        ("2*-3", -6),
        ("2--3", 5),
        ("-2*3+10", 4),
        ("-(1+2)", -3),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2.50 * 2", 5),
        ("1/3", 0.333333),
        ("2/3", 0.666667),
        ("-2/3", -0.666667),
        ("1/3*3", 1),
        ("1/49*49", 1),
        ("floor(1/49*49)", 1),
        ("0.1+0.2", 0.3),
        ("1/3+1/3+1/3", 1),
        ("1/10000000", 0),
        ("0-1/10000000", 0),
        ("floor(7/2)", 3),
        ("floor(-7/2)", -4),
        ("floor(-3)", -3),
        ("ceil(7/2)", 4),
        ("CEIL(-7/2)", -3),
        ("abs(-7/2)", 3.5),
        ("abs(2-5)", 3),
        ("abs(5)", 5),
        ("min(3)", 3),
        ("min(3, 2, 5/2)", 2),
        ("max(3, 2, 7/2)", 3.5),
        ("max(1, min(2, floor(9/2)))", 2),
        ("(" * 20 + "7" + ")" * 20, 7),
        ("-" * 199 + "1", -1),
        ("000123", 123),
        ("1000000000", 1_000_000_000),
        ("1000000000*9007199", 9_007_199_000_000_000),
        ("9007199*1000000000+254740991", MAX_RESULT),
        ("0-9007199*1000000000-254740991", -MAX_RESULT),
        ("(9007199*1000000000+254740989)+1/2", MAX_RESULT - 1),
    ],
)
def test_arithmetic(expression: str, total: float) -> None:
    result = roll(expression, SEED)

    assert result.total == total
    assert type(result.total) is type(total)
    assert str(result.total) != "-0.0"
    assert result.dice == ()


@pytest.mark.parametrize(
    "expression",
    [
        "1d8[fire]+2[bless]",
        "[fire] 1d8 + 2",
        "1d8 [#1, the (first)] + 2",
        "1d[]8 + [a][b] 2",
        "1d8+2 # against the dragon's 3d6 (or so) [",
        "1d8+2#",
        "\t1d8\n+\u00a02 ",
    ],
)
def test_labels_comments_and_spaces_change_nothing(expression: str) -> None:
    result = thrown(expression, 6)

    assert result.total == 8
    assert result.expression == expression


@pytest.mark.parametrize(
    ("expression", "faces", "dice"),
    [
        ("2d6", (3, 4), ["3 kept", "4 kept"]),
        ("2d20kh1", (3, 18), ["3 dropped", "18 kept"]),
        ("2d20kl1", (3, 18), ["3 kept", "18 dropped"]),
        # of equal dice the earlier stay
        ("3d6kh1", (5, 5, 5), ["5 kept", "5 dropped", "5 dropped"]),
        ("3d6kl1", (5, 5, 5), ["5 kept", "5 dropped", "5 dropped"]),
        ("3d6dh1", (5, 5, 5), ["5 kept", "5 kept", "5 dropped"]),
        ("3d6dl1", (5, 5, 5), ["5 kept", "5 kept", "5 dropped"]),
        ("1d6r<3", (1, 2, 5), ["1 rerolled", "2 rerolled", "5 kept"]),
        ("2d6ro1kh1", (1, 2, 6), ["1 rerolled", "2 dropped", "6 kept"]),
        (
            "2d6!",
            (6, 6, 1, 2),
            ["6 kept exploded", "6 kept exploded", "1 kept", "2 kept"],
        ),
        ("2d6!kh1", (6, 3, 2), ["6 kept exploded", "3 dropped", "2 dropped"]),
        ("2d6!kl1", (6, 3, 2), ["6 dropped exploded", "3 dropped", "2 kept"]),
        ("1d6!!", (6, 6, 2), ["14 kept exploded"]),
        ("2d6!!", (2, 6, 1), ["2 kept", "7 kept exploded"]),
        ("1d6!p", (6, 6, 1), ["6 kept exploded", "5 kept exploded", "0 kept"]),
        # dice from an explosion are not rerolled
        ("1d6r1!", (1, 6, 1), ["1 rerolled", "6 kept exploded", "1 kept"]),
        # only kept dice count, by the value they show
        (
            "4d6kh3>=5f<=2",
            (6, 1, 2, 5),
            ["6 kept success", "1 dropped", "2 kept failure", "5 kept success"],
        ),
        ("2d6>=1f1", (1, 2), ["1 kept success failure", "2 kept success"]),
        # the first comparison binds to the explosion, and nothing is above 6
        ("1d6!!>6", (6,), ["6 kept"]),
        ("1d6!!=6>6", (6, 2), ["8 kept exploded success"]),
        ("1d6!p=6>=6", (6, 6, 3), ["6 kept exploded success", "5 kept exploded", "2 kept"]),
        ("2dF", (1, 3), ["-1 kept", "1 kept"]),
        # in the order of the text, whatever a function chooses
        ("max(1d4, 1d6)+d8", (1, 2, 3), ["1 kept", "2 kept", "3 kept"]),
        ("1", (), []),
    ],
)
def test_fates(expression: str, faces: tuple[int, ...], dice: list[str]) -> None:
    assert shown(thrown(expression, *faces)) == dice


def test_dice_know_their_sides() -> None:
    result = thrown("d6+d%+dF+d20!", 1, 2, 3, 20, 4)

    assert [die.sides for die in result.dice] == [6, 100, "F", 20, 20]


@pytest.mark.parametrize(
    ("expression", "faces", "total"),
    [
        # As the suite of @dice-roller/rpg-dice-roller has them, the faces in our order.
        ("2d7 + (5d4 * 2)", (5, 2, 4, 2, 1, 3, 3), 33),
        ("floor(2.56 * d7)", (5,), 12),
        ("ceil(2.56 * d7)", (5,), 13),
        ("max(2 * (d7/2), 1d7)", (5, 2), 5),
        ("min(2 * (d7/2), 1d7)", (5, 2), 2),
        ("2d6r<=4", (4, 6, 5), 11),
        ("6d10>=8!>=9", (4, 5, 6, 3, 10, 6, 8), 2),
        ("6d10!>=9>=8", (4, 5, 6, 3, 10, 6, 8), 2),
        ("2d10!<>8", (4, 6, 3, 10, 8, 5, 8), 44),
        ("1d20+-5", (20,), 15),
        ("1d20--6", (20,), 26),
        ("1d20+1.45", (8,), 9.45),
        ("1d20*0.20", (8,), 1.6),
        ("6d10!", (8, 4, 2, 1, 6, 10, 10, 2), 43),
        ("6d10!>=8", (8, 10, 2, 4, 2, 1, 6, 10, 5), 48),
        ("6d10!<3", (8, 4, 2, 10, 1, 2, 5, 6, 10), 48),
        # As the suite of d20 has them, written in this grammar.
        ("4d6kh3", (1, 2, 3, 4), 9),
        ("5d6kl2", (1, 2, 3, 4, 5), 3),
        ("5d6kh2", (1, 2, 3, 4, 5), 9),
        ("5d6dh1dl1", (1, 2, 3, 4, 5), 9),
        ("1d20r<20", (5, 19, 20), 20),
        ("1d20r>1", (5, 19, 1), 1),
        ("4*(3d8kh2+9[fire]+(9d2r2+3[cold])/2)", (8, 1, 7, *(1,) * 9), 120),
        ("((1d6))", (4,), 4),
    ],
)
def test_agrees_with_known_rollers(expression: str, faces: tuple[int, ...], total: float) -> None:
    assert thrown(expression, *faces).total == total


def test_every_pair_of_faces() -> None:
    """Advantage and disadvantage over all four hundred throws: the known sums of maxima and minima."""
    pairs = list(product(range(1, 21), repeat=2))

    assert sum(int(thrown("2d20kh1", *pair).total) for pair in pairs) == 5_530
    assert sum(int(thrown("2d20kl1", *pair).total) for pair in pairs) == 2_870


@pytest.mark.parametrize(
    ("expression", "faces", "character"),
    [
        ("1/0", (), 2),
        ("2 + 6/(2-2)", (), 6),
        ("10/(d6-3)", (3,), 3),
        ("1/0d6", (), 2),
        ("0/0", (), 2),
    ],
)
def test_division_by_zero_is_a_conflict(
    expression: str, faces: tuple[int, ...], character: int
) -> None:
    with pytest.raises(Conflict, match=f"character {character} is by zero") as refusal:
        thrown(expression, *faces)
    assert refusal.value.http_status == 409


def test_explosions_end_at_their_bound() -> None:
    just = (*(6,) * MAX_EXPLOSIONS, 1)
    assert thrown("1d6!", *just).total == 6 * MAX_EXPLOSIONS + 1
    assert thrown("1d6!!", *just).total == 6 * MAX_EXPLOSIONS + 1

    for expression in ("1d6!", "1d6!!", "1d6!p"):
        with pytest.raises(IllFormed, match="explosion at character 4 came to more") as refusal:
            roll_with(expression, lambda sides: sides)
        assert refusal.value.position == 3


def test_explosions_of_several_pools_share_the_bound() -> None:
    faces = (*(6,) * 600, 1, *(6,) * 401)
    with pytest.raises(IllFormed, match="explosion at character 10 came"):
        thrown("1d6! + d6!", *faces)


def test_rerolls_end_at_their_bound() -> None:
    result = thrown("1d6r", *(1,) * MAX_REROLLS, 2)
    assert result.total == 2
    assert len(result.dice) == MAX_REROLLS + 1

    with pytest.raises(IllFormed, match="reroll at character 4 came to more") as refusal:
        thrown("1d6r", *(1,) * MAX_REROLLS, 1)
    assert refusal.value.position == 3


def test_the_largest_rolls_are_allowed() -> None:
    assert roll_with("999d1000000 + d1000000", lambda sides: sides).total == 1_000_000_000
    assert len(roll("1000d6!", SEED).dice) > 1_000


def test_a_result_beyond_what_clients_read_exactly_is_refused() -> None:
    with pytest.raises(IllFormed, match="'\\*' at character 11 the result passes") as refusal:
        roll("1000000000*1000000000*0", SEED)
    assert refusal.value.position == 10
    with pytest.raises(IllFormed):
        roll("-1000000000*1000000000", SEED)


def test_json_is_the_contracts() -> None:
    result = thrown("2d6!kh1[x]", 6, 2, 3)

    assert json.loads(msgspec.json.encode(result)) == {
        "expression": "2d6!kh1[x]",
        "total": 6,
        "dice": [
            {"sides": 6, "value": 6, "fate": ["kept", "exploded"]},
            {"sides": 6, "value": 2, "fate": ["dropped"]},
            {"sides": 6, "value": 3, "fate": ["dropped"]},
        ],
    }


@pytest.mark.parametrize("expression", ["4dF", "1/3", "2d20kh1+4", "3d6!>3f1>=4"])
def test_a_roll_survives_json(expression: str) -> None:
    result = roll(expression, SEED)

    assert msgspec.json.decode(msgspec.json.encode(result), type=Roll) == result


def test_golden_faces() -> None:
    """What seeds mean never changes: a stored seed proves its roll."""
    result = roll("12d6 + 4d20 + 4d% + 6dF + 2d1000000", b"the table is set")

    assert [die.value for die in result.dice] == [
        *(3, 1, 5, 3, 6, 5, 2, 4, 6, 4, 5, 6),
        *(19, 19, 6, 8),
        *(68, 31, 13, 72),
        *(0, 0, -1, 0, 1, 1),
        *(253_054, 868_310),
    ]


def naive_words(seed: bytes, count: int) -> list[int]:
    """The construction as its description has it, all blocks at once."""
    person = b"tableforge.dice"
    key = blake2b(seed, person=person, digest_size=64).digest()
    stream = b"".join(
        blake2b(n.to_bytes(8, "big"), key=key, person=person, digest_size=64).digest()
        for n in range(count // 16 + 1)
    )
    return [int.from_bytes(stream[4 * n : 4 * n + 4], "big") for n in range(count)]


@pytest.mark.parametrize("sides", [1, 2, 6, 7, 999_983, 1_000_000])
def test_faces_are_the_words_of_the_stream_without_the_biased_ones(sides: int) -> None:
    thrown_away = 0
    for seed in (b"", b"a", b"long" * 100, b"\x10", b"\x14"):
        faces = [die.value for die in roll(f"1000d{sides}", seed).dice]
        words = naive_words(seed, 1_100)
        fair = [word for word in words if word // sides < 2**32 // sides]
        thrown_away += len(words) - len(fair)
        assert faces == [word % sides + 1 for word in fair[:1_000]]
    assert (thrown_away > 0) == (sides == 1_000_000)


@pytest.mark.parametrize("sides", [2, 3, 6, 10, 12, 20, 100, 97])
def test_faces_are_even(sides: int) -> None:
    """Chi-square with fixed seeds: far outside its spread, the faces would not be equally likely."""
    seen = [0] * sides
    for seed in range(10):
        for die in roll(f"1000d{sides}", seed.to_bytes(16, "big")).dice:
            seen[die.value - 1] += 1
    even = 10_000 / sides
    statistic = sum((count - even) ** 2 / even for count in seen)
    freedom = sides - 1
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_neighbouring_dice_are_independent() -> None:
    """Chi-square over pairs of neighbours: a repeating or sorted stream would show here."""
    seen = {(one, other): 0 for one in range(1, 7) for other in range(1, 7)}
    for seed in range(10):
        values = [die.value for die in roll("1000d6", seed.to_bytes(16, "big")).dice]
        for pair in zip(values[::2], values[1::2], strict=True):
            seen[pair] += 1
    even = 5_000 / 36
    statistic = sum((count - even) ** 2 / even for count in seen.values())
    assert abs(statistic - 35) < 4 * 70**0.5


def test_the_same_seed_gives_the_same_roll_and_another_another() -> None:
    assert roll("20d20", SEED) == roll("20d20", SEED)
    assert roll("20d20", SEED).dice != roll("20d20", SEED + b"!").dice

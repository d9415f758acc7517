"""Dice: an expression and a seed in, every die with its fate out. The same two always give the same roll.

A roll is decided once and stored with its result, so a replay of the log never comes here.

For each die, in the order in which they are written: it is thrown and rerolled until it stays, then it explodes. When
all dice of a pool lie on the table, some are kept and some dropped, and of the kept ones successes and failures are
counted. Dice that an explosion adds are kept, dropped and counted like the others, but not rerolled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from typing import Final, Literal

from msgspec import Struct

from tableforge.domain.dice_grammar import (
    Call,
    Chain,
    Explosion,
    Expression,
    Literally,
    Negation,
    Number,
    Pool,
    Reroll,
    Selection,
    Sides,
    faces,
    parse,
)
from tableforge.domain.dice_refusals import IllFormed
from tableforge.errors import Conflict

__all__ = ["Die", "Draw", "Fate", "IllFormed", "Roll", "roll", "roll_with"]

MAX_EXPLOSIONS: Final = 1_000
MAX_REROLLS: Final = 1_000
MAX_RESULT: Final = 2**53 - 1
"""The largest whole number that every client's JSON reads exactly; no result on the way may pass it."""

Fate = Literal["kept", "dropped", "exploded", "rerolled", "success", "failure"]
Draw = Callable[[int], int]
"""Given n, a number from 1 to n, each as likely as the others."""


class Die(Struct, frozen=True):
    """One die that was thrown.

    `value` is what it counts for: the face, one less if it came from a penetrating explosion, the sum of
    all faces if it compounds. `sides` is "F" for a fudge die, whose faces are -1, 0 and 1.

    `fate` holds the words that apply, in this order. Exactly one of these: `kept` (it counts), `dropped` (by keep or
    drop), `rerolled` (thrown again: the next die in the list is the one that took its place). Also `exploded`: it caused
    one more throw, which follows it in the list, or, compounding, was added to it. `success` and `failure`: how a
    kept die was counted; it can be both, and neither.
    """

    sides: Sides
    value: int
    fate: tuple[Fate, ...]


class Roll(Struct, frozen=True):
    """What came of an expression: `dice` in the order of the text, also those that a function did not choose.

    `total` is whole where it can be, else rounded to six decimals; its magnitude is at most `MAX_RESULT`.
    """

    expression: str
    total: int | float
    dice: tuple[Die, ...]


def roll(expression: str, seed: bytes) -> Roll:
    """Roll an expression with the randomness of `seed`: 16 secret bytes or more, used for this roll alone.

    Raises `IllFormed` for what the grammar or its bounds refuse and `Conflict` for a division by zero.
    """
    return roll_with(expression, _Faces(seed).draw)


def roll_with(expression: str, draw: Draw) -> Roll:
    """`roll` with the faces from elsewhere. They are drawn in the order of the dice in the result.

    A fudge die draws from 3 and counts two less; a die that compounds draws once per face it adds.
    """
    tree = parse(expression)
    table = _Table(draw)
    total = _rounded(table.value(tree))
    return Roll(expression=expression, total=total, dice=tuple(table.dice))


class _Faces:
    """Numbers without bias from one seed, for ever.

    The bytes are BLAKE2b (RFC 7693) keyed with the seed over a counter: the counter mode of NIST SP 800-108 with BLAKE2b
    as its pseudorandom function. A 32-bit word beyond the last whole multiple of n is thrown away, as OpenBSD's
    arc4random_uniform does, so that every number is equally likely. Changing any of it changes what seeds mean.
    """

    _PERSON = b"tableforge.dice"
    """Keeps these bytes apart from those of any other use of the same seed."""

    def __init__(self, seed: bytes) -> None:
        # A key holds at most 64 bytes; hashed first, a seed may have any length.
        self._key = blake2b(seed, person=self._PERSON).digest()
        self._counter = 0
        self._words: list[int] = []

    def draw(self, sides: int) -> int:
        """A number from 1 to `sides`."""
        limit = 2**32 - 2**32 % sides
        while (word := self._word()) >= limit:
            pass
        return word % sides + 1

    def _word(self) -> int:
        if not self._words:
            counter = self._counter.to_bytes(8, "big")
            block = blake2b(counter, key=self._key, person=self._PERSON).digest()
            self._words = [int.from_bytes(block[i : i + 4], "big") for i in range(60, -1, -4)]
            self._counter += 1
        return self._words.pop()


@dataclass(slots=True)
class _Thrown:
    """A die on the table whose fate is not yet sealed."""

    sides: Sides
    value: int
    kept: bool = True
    exploded: bool = False
    rerolled: bool = False
    success: bool = False
    failure: bool = False

    def sealed(self) -> Die:
        dropped = not (self.kept or self.rerolled)
        marks: tuple[tuple[Fate, bool], ...] = (
            ("kept", self.kept),
            ("dropped", dropped),
            ("exploded", self.exploded),
            ("rerolled", self.rerolled),
            ("success", self.success),
            ("failure", self.failure),
        )
        return Die(self.sides, self.value, tuple(fate for fate, applies in marks if applies))


class _Table:
    """Works one expression out: what it comes to, and the dice that lie there when it is done."""

    def __init__(self, draw: Draw) -> None:
        self.dice: list[Die] = []
        self._draw = draw
        self._explosions = 0
        self._rerolls = 0

    def value(self, node: Expression) -> Number:
        """What the node comes to; its dice are added to the table."""
        match node:
            case Literally(value=value):
                return value
            case Negation(operand=operand):
                return -self.value(operand)
            case Pool():
                return self._pool(node)
            case Chain():
                return self._chain(node)
            case Call(function=function, arguments=arguments):
                return _FUNCTIONS[function]([self.value(argument) for argument in arguments])

    def _chain(self, chain: Chain) -> Number:
        result = self.value(chain.first)
        for step in chain.steps:
            operand = self.value(step.operand)
            match step.operator:
                case "+":
                    result += operand
                case "-":
                    result -= operand
                case "*":
                    result *= operand
                case _ if operand == 0:
                    raise Conflict(
                        what=f"The division at character {step.position + 1} is by zero.",
                        why="What stands after the '/' came to 0.",
                        mend="Divide by something that cannot, or use max(1, ...).",
                    )
                case _:
                    result = Fraction(result) / operand
            if not -MAX_RESULT <= result <= MAX_RESULT:
                raise IllFormed(
                    f"With the '{step.operator}' at character {step.position + 1} the result passes {MAX_RESULT}.",
                    "Use smaller numbers.",
                    position=step.position,
                )
        return result

    def _pool(self, pool: Pool) -> int:
        thrown: list[_Thrown] = []
        for _ in range(pool.count):
            face = self._settle(pool, thrown)
            self._explode(pool, face, thrown)
        kept = [die for die in thrown if die.kept]
        for selection in pool.selections:
            kept = _select(kept, selection)
        result = sum(die.value for die in kept)
        if pool.success is not None:
            result = _count(pool, kept)
        self.dice.extend(die.sealed() for die in thrown)
        return result

    def _settle(self, pool: Pool, thrown: list[_Thrown]) -> int:
        """The first face that no reroll takes; those before it join `thrown`."""
        rerolls = pool.rerolls
        while True:
            face = self._face(pool.sides)
            reroll = next((each for each in rerolls if each.test.holds(face)), None)
            if reroll is None:
                return face
            self._bound_rerolls(reroll)
            thrown.append(_Thrown(pool.sides, face, kept=False, rerolled=True))
            if reroll.once:
                rerolls = tuple(each for each in rerolls if each is not reroll)

    def _explode(self, pool: Pool, face: int, thrown: list[_Thrown]) -> None:
        """The die that shows `face` and whatever it sets off join `thrown`."""
        die = _Thrown(pool.sides, face)
        thrown.append(die)
        explosion = pool.explosion
        while explosion is not None and explosion.test.holds(face):
            self._bound_explosions(explosion)
            die.exploded = True
            face = self._face(pool.sides)
            if explosion.kind == "compound":
                die.value += face
            else:
                penetrates = explosion.kind == "penetrate"
                die = _Thrown(pool.sides, face - 1 if penetrates else face)
                thrown.append(die)

    def _face(self, sides: Sides) -> int:
        low, high = faces(sides)
        return self._draw(high - low + 1) + low - 1

    def _bound_rerolls(self, reroll: Reroll) -> None:
        self._rerolls += 1
        if self._rerolls > MAX_REROLLS:
            raise IllFormed(
                f"The reroll at character {reroll.position + 1} came to more than {MAX_REROLLS} throws.",
                "Roll fewer dice, or reroll fewer faces.",
                position=reroll.position,
            )

    def _bound_explosions(self, explosion: Explosion) -> None:
        self._explosions += 1
        if self._explosions > MAX_EXPLOSIONS:
            raise IllFormed(
                f"The explosion at character {explosion.position + 1} came to more than {MAX_EXPLOSIONS} throws.",
                "Roll fewer dice, or let fewer faces explode.",
                position=explosion.position,
            )


def _select(kept: list[_Thrown], selection: Selection) -> list[_Thrown]:
    """Those that stay, in their order. Of equal dice the earlier ones stay, whichever way it is asked for."""
    stay = selection.count if selection.keep else max(0, len(kept) - selection.count)
    # To drop the lowest is to keep the highest of the others.
    highest = selection.highest is selection.keep
    ranked = sorted(kept, key=lambda die: -die.value if highest else die.value)
    for die in ranked[stay:]:
        die.kept = False
    return [die for die in kept if die.kept]


def _count(pool: Pool, kept: list[_Thrown]) -> int:
    """Successes less failures."""
    for die in kept:
        die.success = pool.success is not None and pool.success.holds(die.value)
        die.failure = pool.failure is not None and pool.failure.holds(die.value)
    return sum(die.success - die.failure for die in kept)


def _rounded(value: Number) -> int | float:
    if isinstance(value, int):
        return value
    result = float(round(value, 6))
    return int(result) if result.is_integer() else result


_FUNCTIONS: Final[dict[str, Callable[[list[Number]], Number]]] = {
    "min": min,
    "max": max,
    "floor": lambda values: math.floor(values[0]),
    "ceil": lambda values: math.ceil(values[0]),
    "abs": lambda values: values[0] if values[0] >= 0 else -values[0],
}

"""Dice expressions as a player types them: text in, a bounded tree out, or a refusal that says where and how to mend.

The grammar is the contract's (`NdS`, `d%`, `dF`, keep and drop, explode, reroll, count, arithmetic). What it leaves open:

- Letters may be upper or lower case. A `[label]` may stand wherever a space may. After `#` everything is comment.
- Comparisons are `=`, `<>`, `<`, `<=`, `>`, `>=`. After `!`, `!!`, `!p`, `r`, `ro` and `f` a bare number means `=`, so
  `r1` is `r=1`. There is no operator `!=`: `!=6` explodes on 6; after a bare `r`, `ro` or `f` it is refused, because
  who writes that most likely means "not".
- Left out, the comparison of an explosion is the highest face, that of `r`, `ro` and `f` the lowest.
- `r` and `ro` may be repeated (`r1ro2`), and so may keep and drop: each narrows what the one before it kept. Everything
  else stands once per pool. The order in which modifiers are written decides nothing else.
- An explosion that every face sets off would never end, so it is as ill-formed as such a reroll.
"""

import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, Literal

import lark
from msgspec import Struct

from tableforge.domain.dice_refusals import IllFormed, explain, refuse_brackets

MAX_CHARACTERS: Final = 200
MAX_DICE: Final = 1_000
"""Dice that one expression may write; those that rerolls and explosions add have bounds of their own."""
MAX_DEPTH: Final = 20
"""Parentheses and functions inside each other."""
MAX_SIDES: Final = 1_000_000
MAX_NUMBER: Final = 1_000_000_000
"""The largest number that may be written; results may be larger."""

Sides = int | Literal["F"]
Number = int | Fraction
ExplosionKind = Literal["explode", "compound", "penetrate"]


class Comparison(Struct, frozen=True):
    """A test of one die's value."""

    operator: str
    number: int

    def holds(self, value: int) -> bool:
        """Whether `value` passes."""
        return _COMPARE[self.operator](value, self.number)


class Reroll(Struct, frozen=True):
    """Throw again while (or, with `once`, one time) the face passes the test."""

    test: Comparison
    once: bool
    position: int


class Explosion(Struct, frozen=True):
    """Throw one more while the face passes the test."""

    kind: ExplosionKind
    test: Comparison
    position: int


class Selection(Struct, frozen=True):
    """Keep or drop the `count` highest or lowest of the dice that are still kept."""

    keep: bool
    highest: bool
    count: int


class Pool(Struct, frozen=True):
    """Dice of one kind and all that happens to them, in the order in which it happens."""

    count: int
    sides: Sides
    position: int
    rerolls: tuple[Reroll, ...] = ()
    explosion: Explosion | None = None
    selections: tuple[Selection, ...] = ()
    success: Comparison | None = None
    failure: Comparison | None = None


class Literally(Struct, frozen=True):
    """A number as written."""

    value: Number


class Negation(Struct, frozen=True):
    """A term with a minus before it."""

    operand: "Expression"


class Step(Struct, frozen=True):
    """One link of a chain: the operator, where it stands, and what stands after it."""

    operator: str
    operand: "Expression"
    position: int


class Chain(Struct, frozen=True):
    """Operators of one precedence, worked from left to right."""

    first: "Expression"
    steps: tuple[Step, ...]


class Call(Struct, frozen=True):
    """A function with its arguments."""

    function: str
    arguments: tuple["Expression", ...]


Expression = Literally | Pool | Negation | Chain | Call

_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXPLOSIONS: Final[dict[str, ExplosionKind]] = {"!": "explode", "!!": "compound", "!p": "penetrate"}

# Where a comparison could bind to the modifier before it or count successes, LALR shifts: it binds, as the contract says.
_GRAMMAR: Final = r"""
?start: sum
?sum: product ((PLUS | MINUS) product)*
?product: signed ((STAR | SLASH) signed)*
?signed: atom | (PLUS | MINUS)+ atom
?atom: number | pool | call | _LPAR sum _RPAR
number: DECIMAL | INT
call: FUNCTION _LPAR sum (_COMMA sum)* _RPAR

pool: INT? D (INT | PERCENT | F) _modifier*
_modifier: select | explode | reroll | succeed | fail
select: SELECT INT?
explode: EXPLODE _point?
reroll: REROLL _point?
succeed: _comparison
fail: F _point?
_point: _comparison | INT
_comparison: COMPARE MINUS? INT

SELECT: /k[hl]?|d[hl]/i
EXPLODE: /!!|!p|!/i
REROLL: /ro?/i
COMPARE: /<>|<=|>=|<|>|=/
FUNCTION: /min|max|floor|ceil|abs/i
D: /d/i
F: /f/i
DECIMAL.1: /[0-9]*\.[0-9]+/
INT: /[0-9]+/
PLUS: "+"
MINUS: "-"
STAR: "*"
SLASH: "/"
PERCENT: "%"
_LPAR: "("
_RPAR: ")"
_COMMA: ","
%ignore /\s+/
%ignore /\[[^\[\]]*\]/
%ignore /#.*/s
"""


_Node = lark.Tree[lark.Token]
_PARSER: Final = lark.Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


def parse(text: str) -> Expression:
    """The tree of an expression, or `IllFormed`. Takes time in proportion to the text, which is bounded."""
    if len(text) > MAX_CHARACTERS:
        raise IllFormed(
            f"The expression is longer than {MAX_CHARACTERS} characters.",
            "Shorten it, or roll its parts one by one.",
            position=MAX_CHARACTERS,
        )
    refuse_brackets(text, deepest=MAX_DEPTH)
    try:
        tree = _PARSER.parse(text)
    except lark.UnexpectedInput as error:
        raise explain(_PARSER, text, error) from None
    return _Reader().expression(tree)


class _Reader:
    """Turns the parser's tree into ours and refuses what only its meaning makes ill-formed.

    In the tree of every rule the tokens are what the rule itself says and the trees its parts.
    """

    def __init__(self) -> None:
        self._dice = 0

    def expression(self, node: _Node) -> Expression:
        """The node and all below it; `refuse_brackets` has bounded how deep that goes."""
        tokens, parts = _tokens(node), _parts(node)
        match node.data:
            case "number":
                return _number(tokens[0])
            case "signed":
                operand = self.expression(parts[0])
                return Negation(operand) if sum(sign == "-" for sign in tokens) % 2 else operand
            case "call":
                return self._call(tokens[0], parts)
            case "pool":
                return self._pool(tokens, parts)
            case _:
                first, *others = (self.expression(part) for part in parts)
                steps = zip(tokens, others, strict=True)
                return Chain(first, tuple(Step(str(t), other, _at(t)) for t, other in steps))

    def _call(self, name: lark.Token, parts: Sequence[_Node]) -> Call:
        function = name.lower()
        if function not in ("min", "max") and len(parts) > 1:
            raise IllFormed(
                f"'{name}' at character {_at(name) + 1} takes one value and was given {len(parts)}.",
                "Give it one, or use min or max.",
                position=_at(name),
            )
        return Call(function, tuple(self.expression(part) for part in parts))

    def _pool(self, tokens: Sequence[lark.Token], parts: Sequence[_Node]) -> Pool:
        *counts, _, kind = tokens
        position = _at(tokens[0])
        count = _whole(counts[0]) if counts else 1
        self._dice += count
        if self._dice > MAX_DICE:
            raise IllFormed(
                f"With the dice at character {position + 1} there are more than {MAX_DICE} in all.",
                "Roll fewer at once.",
                position=position,
            )
        sides = _sides(kind)
        low, high = faces(sides)
        modifiers = _Modifiers(low, high)
        for part in parts:
            modifiers.add(str(part.data), _tokens(part))
        return modifiers.pool(count=count, sides=sides, position=position)


class _Modifiers:
    """Gathers the modifiers of one pool, in whatever order they are written."""

    def __init__(self, low: int, high: int) -> None:
        self._low = low
        self._high = high
        self._rerolls: list[Reroll] = []
        self._explosion: Explosion | None = None
        self._selections: list[Selection] = []
        self._success: Comparison | None = None
        self._failure: Comparison | None = None
        self._failure_at = 0
        self._bare = False

    def add(self, rule: str, tokens: Sequence[lark.Token]) -> None:
        """Take in one modifier: its own token first, its count or comparison after it."""
        first, *rest = tokens
        if self._bare and first == "!" and rest and rest[0] == "=":
            raise IllFormed(
                f"'!=' at character {_at(first) + 1} can be read in two ways.",
                "Write <> for all but that face; to explode on it, write the explosion first.",
                position=_at(first),
            )
        self._bare = rule in ("reroll", "fail") and not rest
        match rule:
            case "select":
                word = first.lower()
                count = _whole(rest[0]) if rest else 1
                self._selections.append(
                    Selection(keep=word[0] == "k", highest=word[-1] != "l", count=count)
                )
            case "reroll":
                self._add_reroll(first, rest)
            case "explode":
                self._add_explosion(first, rest)
            case "succeed":
                if self._success is not None:
                    raise _twice(first, "says what counts as a success")
                self._success = _comparison(tokens, default=self._high)
            case _:
                if self._failure is not None:
                    raise _twice(first, "says what counts as a failure")
                self._failure = _comparison(rest, default=self._low)
                self._failure_at = _at(first)

    def pool(self, *, count: int, sides: Sides, position: int) -> Pool:
        """The pool with all of them, once they are known to make sense together."""
        endless = [reroll for reroll in self._rerolls if not reroll.once]
        if self._every_face_passes([reroll.test for reroll in endless]):
            raise IllFormed(
                f"With the reroll at character {endless[-1].position + 1} every face would be rolled again, for ever.",
                "Leave at least one face that stays, as in 1d6r<3.",
                position=endless[-1].position,
            )
        if self._failure is not None and self._success is None:
            raise IllFormed(
                f"'f' at character {self._failure_at + 1} counts failures, but nothing says what succeeds.",
                "Add it, as in 6d10>=7f1.",
                position=self._failure_at,
            )
        return Pool(
            count=count,
            sides=sides,
            position=position,
            rerolls=tuple(self._rerolls),
            explosion=self._explosion,
            selections=tuple(self._selections),
            success=self._success,
            failure=self._failure,
        )

    def _add_reroll(self, word: lark.Token, rest: Sequence[lark.Token]) -> None:
        reroll = Reroll(
            test=_comparison(rest, default=self._low), once=len(word) > 1, position=_at(word)
        )
        if reroll.once and self._every_face_passes([reroll.test]):
            raise IllFormed(
                f"The reroll at character {_at(word) + 1} takes every face, so the first throw means nothing.",
                "Leave at least one face that stays, as in 1d6ro<3.",
                position=_at(word),
            )
        self._rerolls.append(reroll)

    def _add_explosion(self, mark: lark.Token, rest: Sequence[lark.Token]) -> None:
        if self._explosion is not None:
            raise _twice(mark, "explodes")
        test = _comparison(rest, default=self._high)
        if self._every_face_passes([test]):
            raise IllFormed(
                f"With '{mark}' at character {_at(mark) + 1} every face would explode, for ever.",
                "Leave at least one face that does not, as in 1d6!>=5.",
                position=_at(mark),
            )
        self._explosion = Explosion(kind=_EXPLOSIONS[mark.lower()], test=test, position=_at(mark))

    def _every_face_passes(self, tests: Sequence[Comparison]) -> bool:
        """Whether no face fails all tests.

        The lowest that does is the lowest of all, or a test that its neighbour below passes ends there: at the test's
        number or just above it.
        """
        beside = {test.number + step for test in tests for step in (0, 1)}
        candidates = {self._low} | {face for face in beside if self._low <= face <= self._high}
        return all(any(test.holds(face) for test in tests) for face in candidates)


def faces(sides: Sides) -> tuple[int, int]:
    """The lowest and the highest face of a die."""
    return (-1, 1) if sides == "F" else (1, int(sides))


def _tokens(node: _Node) -> list[lark.Token]:
    return [child for child in node.children if isinstance(child, lark.Token)]


def _parts(node: _Node) -> list[_Node]:
    return [child for child in node.children if isinstance(child, lark.Tree)]


def _at(token: lark.Token) -> int:
    return token.start_pos or 0


def _number(token: lark.Token) -> Literally:
    value = Fraction(str(token)) if token.type == "DECIMAL" else int(token)
    _check_size(token, value)
    return Literally(value)


def _whole(token: lark.Token) -> int:
    value = int(token)
    _check_size(token, value)
    return value


def _check_size(token: lark.Token, value: Number) -> None:
    if value > MAX_NUMBER:
        raise IllFormed(
            f"The number at character {_at(token) + 1} is larger than {MAX_NUMBER}.",
            "Use a smaller one.",
            position=_at(token),
        )


def _sides(token: lark.Token) -> Sides:
    if token.type == "PERCENT":
        return 100
    if token.type == "F":
        return "F"
    sides = int(token)
    if not 1 <= sides <= MAX_SIDES:
        raise IllFormed(
            f"A die with {sides if sides <= MAX_NUMBER else 'so many'} sides, as at character {_at(token) + 1}, cannot be thrown.",
            f"Dice have 1 to {MAX_SIDES} sides.",
            position=_at(token),
        )
    return sides


def _comparison(tokens: Sequence[lark.Token], *, default: int) -> Comparison:
    """What `>=5`, `=-1` or a bare `5` say; `= default` where nothing is said."""
    if not tokens:
        return Comparison("=", default)
    sign = -1 if "-" in tokens else 1
    compare = str(tokens[0]) if tokens[0].type == "COMPARE" else "="
    return Comparison(compare, sign * _whole(tokens[-1]))


def _twice(token: lark.Token, does: str) -> IllFormed:
    return IllFormed(
        f"At character {_at(token) + 1} stands '{token}', but this pool already {does}.",
        "Keep one of the two.",
        position=_at(token),
    )

"""What a player is told about a dice expression that cannot be read: what is wrong, at which character, how to mend it.

The parser knows where it stopped and what it would have taken there. From these two the sentences are made.
"""

import re
from contextlib import suppress
from typing import Final

import lark

from tableforge.errors import Malformed

_FUNCTIONS: Final = {"min", "max", "floor", "ceil", "abs"}
_LETTERS: Final = {"d", "f", "df", "k", "kh", "kl", "dh", "dl", "p", "r", "ro"}
_LOOKALIKES: Final = {
    "\N{MULTIPLICATION SIGN}": "*",
    "\N{DIVISION SIGN}": "/",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{NOT EQUAL TO}": "<>",
}
_MODIFIERS: Final = frozenset({"SELECT", "EXPLODE", "REROLL", "COMPARE", "F"})
_OPERANDS: Final = frozenset({"INT", "DECIMAL", "FUNCTION", "_LPAR"})


class IllFormed(Malformed):
    """A dice expression that cannot be rolled. `position` is the index of the character at fault, from 0.

    It counts code points, and may equal the length of the text when something is missing at the end.
    The sentences count from 1, as people do.
    """

    def __init__(self, what: str, mend: str, *, position: int) -> None:
        super().__init__(what=what, mend=mend)
        self.position = position


def refuse_brackets(text: str, *, deepest: int) -> None:
    """Refuse what is nested too deep or not closed, so that neither parser nor evaluation go deeper than the bound."""
    still_open: list[int] = []
    for match in re.finditer(r"\[[^\[\]]*\]|[\[\]()#]", text):
        position = match.start()
        character = position + 1
        match match.group():
            case "#":
                break
            case "[":
                raise IllFormed(
                    f"The label that begins at character {character} does not end.",
                    "Close it with ']'; a label holds no other '['.",
                    position=position,
                )
            case "]":
                raise IllFormed(
                    f"The ']' at character {character} ends no label.",
                    "Labels look like [fire]; take it away or add the '['.",
                    position=position,
                )
            case "(":
                still_open.append(position)
                if len(still_open) > deepest:
                    raise IllFormed(
                        f"At character {character} more than {deepest} parentheses are open.",
                        "Roll the inner parts one by one.",
                        position=position,
                    )
            case ")" if not still_open:
                raise IllFormed(
                    f"The ')' at character {character} closes nothing.",
                    "Take it away or add the '('.",
                    position=position,
                )
            case ")":
                still_open.pop()
            case _:
                pass  # a whole label
    if still_open:
        raise IllFormed(
            f"The '(' at character {still_open[-1] + 1} is never closed.",
            "Add the ')'.",
            position=still_open[-1],
        )


def explain(parser: lark.Lark, text: str, error: lark.UnexpectedInput) -> IllFormed:
    """The refusal for what `parser` could not read in `text`, given the error it raised."""
    stop = error.pos_in_stream or 0  # type: ignore[redundant-expr]  # lark annotates it as always None
    piece, kind = text[stop : stop + 1], ""
    if isinstance(error, lark.UnexpectedToken):
        piece, kind = str(error.token), error.token.type
        if kind == "$END":
            stop = len(text)
    read = _tokens_before(parser, text, stop)
    # A fresh run, because the one that failed has already gone further than the last good token.
    run = parser.parse_interactive()
    for token in read:
        run.feed_token(token)
    expected: set[str] = run.accepts()  # type: ignore[no-untyped-call]  # lark leaves it bare
    previous = read[-1] if read else None
    refusal = _unknown(text, stop, expected)
    if refusal is None and previous is not None:
        refusal = _unfinished(previous, expected)
    if refusal is not None:
        return refusal
    if "D" in expected and "_LPAR" in expected:
        return _no_operand(text, stop, piece, previous)
    return _no_operator(text, stop, piece, kind)


def _tokens_before(parser: lark.Lark, text: str, stop: int) -> list[lark.Token]:
    read: list[lark.Token] = []
    with suppress(lark.UnexpectedInput):
        for token in parser.parse_interactive(text).iter_parse():
            if _at(token) >= stop:
                break
            read.append(token)
    return read


def _unknown(text: str, stop: int, expected: set[str]) -> IllFormed | None:
    """A character or a word that means nothing anywhere."""
    character = text[stop : stop + 1]
    if character in _LOOKALIKES:
        return IllFormed(
            f"The '{character}' at character {stop + 1} is not the sign it looks like.",
            f"Write {_LOOKALIKES[character]} there.",
            position=stop,
        )
    if not character.isalpha():
        return None
    for match in re.finditer(r"[^\W\d_]+", text):
        word, start = match.group(), match.start()
        if start <= stop < match.end() and word.lower() not in _FUNCTIONS | _LETTERS:
            if "PERCENT" in expected and len(word) == 2:
                return None  # `2dx`: that the die is missing says more
            return IllFormed(
                f"'{word}' at character {start + 1} means nothing here.",
                "Words belong in [brackets] or after #; functions are min, max, floor, ceil and abs.",
                position=start,
            )
    return None


def _unfinished(previous: lark.Token, expected: set[str]) -> IllFormed | None:
    """What the last good token began and nothing finished."""
    where = f"'{previous}' at character {_at(previous) + 1}"
    if "PERCENT" in expected:
        what, mend = f"There is no die after the {where}.", "Write d6, d% or dF."
    elif expected <= {"INT", "MINUS"}:
        what, mend = f"There is no whole number after {where}.", "Write one, as in >=5."
    elif expected == {"_LPAR"}:
        what, mend = f"There is no '(' after {where}.", f"Write {previous}(...)."
    else:
        return None
    return IllFormed(what, mend, position=_at(previous))


def _no_operand(text: str, stop: int, piece: str, previous: lark.Token | None) -> IllFormed:
    """Something else, or nothing, where a number or dice should be."""
    if stop < len(text):
        return IllFormed(
            f"{_shown(piece)} at character {stop + 1} stands where a number or dice should be.",
            "Write dice such as 2d6, a number or a parenthesis before it.",
            position=stop,
        )
    if previous is None:
        return IllFormed("There is nothing to roll.", "Write dice such as 2d6+3.", position=0)
    return IllFormed(
        f"Nothing follows the '{previous}' at character {_at(previous) + 1}.",
        "Add a number or dice, or take it away.",
        position=_at(previous),
    )


def _no_operator(text: str, stop: int, piece: str, kind: str) -> IllFormed:
    """Something after a complete term that neither continues nor joins it."""
    where = f"{_shown(piece)} at character {stop + 1}"
    if kind == "D":
        what = f"The {where} does not follow a plain number of dice."
        mend = "Write the number itself, as in 2d6, and an operator between two rolls."
    elif kind == "DECIMAL" and text[stop - 1].isdigit():
        what = f"There is {where}, but with dice only whole numbers can be used."
        mend = "Leave the fraction out."
    elif kind in _OPERANDS:
        what = f"There is no operator before {where}."
        mend = "Put + - * or / there, or a # if a comment begins."
    elif kind in _MODIFIERS:
        what = f"The {where} does not follow dice."
        mend = "Keep, drop, explode, reroll and count stand right after dice, as in 4d6kh3."
    elif kind == "_COMMA":
        what = f"The {where} is not between the values of min or max."
        mend = "Write numbers without separators and decimals with a point."
    else:
        what = f"The {where} does not belong there."
        mend = "Take it away, or put a # before it if a comment begins."
    return IllFormed(what, mend, position=stop)


def _at(token: lark.Token) -> int:
    return token.start_pos or 0


def _shown(piece: str) -> str:
    """Text from the expression, fit for a sentence."""
    if piece.isprintable():
        return f"'{piece}'"
    return " ".join(f"U+{ord(character):04X}" for character in piece)

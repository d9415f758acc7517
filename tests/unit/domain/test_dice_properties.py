"""Any pool, any sum and any text: against naive twins, plain rules of the result, and the bounds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from random import Random

import msgspec
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from tableforge.domain.dice import MAX_RESULT, Draw, IllFormed, Roll, roll_with
from tableforge.errors import Conflict, TableForgeError

FATES = ["kept", "dropped", "exploded", "rerolled", "success", "failure"]
PASSES: dict[str, Callable[[int, int], bool]] = {
    "=": lambda value, number: value == number,
    "<>": lambda value, number: value != number,
    "<": lambda value, number: value < number,
    "<=": lambda value, number: value <= number,
    ">": lambda value, number: value > number,
    ">=": lambda value, number: value >= number,
}


def outcome(expression: str, draw: Draw) -> Roll | TableForgeError:
    """The roll, or the refusal."""
    try:
        return roll_with(expression, draw)
    except TableForgeError as refusal:
        return refusal


def faces_of(seed: int) -> Draw:
    random = Random(seed)
    return lambda sides: random.randint(1, sides)


@dataclass(frozen=True)
class Modifier:
    """One modifier as written, and what it means: a comparison, or the count of a keep or drop."""

    word: str
    text: str
    compare: str = "="
    number: int = 0

    def passes(self, value: int) -> bool:
        return PASSES[self.compare](value, self.number)


@dataclass(frozen=True)
class Spec:
    """One pool and its modifiers in the order in which they are written."""

    count: int
    sides: str
    modifiers: tuple[Modifier, ...]

    @property
    def text(self) -> str:
        return f"{self.count}d{self.sides}" + "".join(m.word + m.text for m in self.modifiers)

    @property
    def faces(self) -> range:
        if self.sides == "F":
            return range(-1, 2)
        return range(1, 101 if self.sides == "%" else int(self.sides) + 1)

    def words(self, *words: str) -> list[Modifier]:
        return [modifier for modifier in self.modifiers if modifier.word in words]

    @property
    def endless(self) -> bool:
        """Whether a reroll or an explosion takes every face."""

        def every(modifiers: list[Modifier]) -> bool:
            return all(any(m.passes(face) for m in modifiers) for face in self.faces)

        return (
            every(self.words("r"))
            or any(every([once]) for once in self.words("ro"))
            or every(self.words("!", "!!", "!p"))
        )


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    count = draw(st.integers(0, 12))
    sides = draw(st.sampled_from(["1", "2", "4", "6", "10", "20", "%", "F"]))
    faces = Spec(count, sides, ()).faces

    def tested(word: str, default: int | None) -> Modifier:
        compare = draw(st.sampled_from(list(PASSES)))
        number = draw(st.integers(faces[0] - 2, faces[-1] + 2))
        forms = ["full"] if default is None else ["full", "bare", "number"]
        match draw(st.sampled_from(forms)):
            case "bare" if default is not None:
                return Modifier(word, "", "=", default)
            case "number" if number >= 0:
                return Modifier(word, str(number), "=", number)
            case _:
                return Modifier(word, f"{compare}{number}", compare, number)

    modifiers = [
        tested(draw(st.sampled_from(["r", "ro"])), faces[0]) for _ in range(draw(st.integers(0, 2)))
    ]
    for _ in range(draw(st.integers(0, 2))):
        kept = draw(st.integers(0, 14))
        modifiers.append(
            Modifier(draw(st.sampled_from(["k", "kh", "kl", "dh", "dl"])), str(kept), "=", kept)
        )
    if draw(st.booleans()):
        modifiers.append(tested(draw(st.sampled_from(["!", "!!", "!p"])), faces[-1]))
    if draw(st.booleans()):
        modifiers.append(tested("", None))
        if draw(st.booleans()):
            modifiers.append(tested("f", faces[0]))
    written = draw(st.permutations(modifiers))
    for first, second in pairwise(written):
        # There a comparison would bind to the one before it, or `!=` be refused.
        assume(first.text or (second.word and not second.text.startswith("=")))
    return Spec(count, sides, tuple(written))


def remove_one(values: list[int], among: list[int], *, lowest: bool) -> int:
    """The place, of those in `among`, of the lowest or highest value; of equal ones the last."""
    chosen = among[0]
    for place in among[1:]:
        if values[place] <= values[chosen] if lowest else values[place] >= values[chosen]:
            chosen = place
    return chosen


def twin(spec: Spec, faces: Iterator[int]) -> tuple[int, list[tuple[int, list[str]]]]:
    """What the pool must come to, worked out step by step in the dullest way."""
    values: list[int] = []
    fates: list[set[str]] = []

    def put(value: int, *words: str) -> None:
        values.append(value)
        fates.append(set(words))

    for _ in range(spec.count):
        unused = spec.words("r", "ro")
        face = next(faces)
        while any(modifier.passes(face) for modifier in unused):
            taker = next(modifier for modifier in unused if modifier.passes(face))
            if taker.word == "ro":
                unused.remove(taker)
            put(face, "rerolled")
            face = next(faces)
        put(face, "kept")
        for explosion in spec.words("!", "!!", "!p"):
            while explosion.passes(face):
                face = next(faces)
                fates[-1].add("exploded")
                if explosion.word == "!!":
                    values[-1] += face
                else:
                    put(face - (explosion.word == "!p"), "kept")
    for selection in spec.words("k", "kh", "kl", "dh", "dl"):
        here = [place for place, fate in enumerate(fates) if "kept" in fate]
        drops = selection.word.startswith("d")
        leave = selection.number if drops else len(here) - selection.number
        for _ in range(min(leave, len(here))):
            gone = remove_one(values, here, lowest=selection.word in ("k", "kh", "dl"))
            here.remove(gone)
            fates[gone] = fates[gone] - {"kept"} | {"dropped"}
    total = counted(spec, values, fates)
    ordered = [[word for word in FATES if word in fate] for fate in fates]
    return total, list(zip(values, ordered, strict=True))


def counted(spec: Spec, values: list[int], fates: list[set[str]]) -> int:
    """The twin's last step: the sum, or successes less failures, which it marks."""
    kept = [place for place, fate in enumerate(fates) if "kept" in fate]
    if not spec.words(""):
        return sum(values[place] for place in kept)
    total = 0
    for place in kept:
        if spec.words("")[0].passes(values[place]):
            fates[place].add("success")
            total += 1
        if any(failure.passes(values[place]) for failure in spec.words("f")):
            fates[place].add("failure")
            total -= 1
    return total


@given(specs(), st.integers(0, 2**32))
def test_pools_agree_with_the_twin(spec: Spec, seed: int) -> None:
    given_faces = faces_of(seed)
    drawn: list[int] = []

    def draw(sides: int) -> int:
        assert sides == len(spec.faces)
        drawn.append(given_faces(sides))
        return drawn[-1]

    result = outcome(spec.text, draw)
    if isinstance(result, TableForgeError):
        event("refused")
        stopped = "came to more than 1000 throws" in result.detail and len(drawn) > 1_000
        assert stopped or (spec.endless and "every face" in result.detail)
        return
    assert not spec.endless
    faces = iter([face + spec.faces[0] - 1 for face in drawn])
    total, dice = twin(spec, faces)
    assert list(faces) == []
    assert result.total == total
    assert [(die.value, list(die.fate)) for die in result.dice] == dice


@given(specs(), st.integers(0, 2**32))
def test_a_pools_dice_obey_the_plain_rules(spec: Spec, seed: int) -> None:
    result = outcome(spec.text, faces_of(seed))
    assume(isinstance(result, Roll))
    assert isinstance(result, Roll)
    dice = result.dice
    kept = [die for die in dice if "kept" in die.fate]
    rerolled = [die for die in dice if "rerolled" in die.fate]
    exploded = [die for die in dice if "exploded" in die.fate]
    for die in dice:
        assert list(die.fate) == [word for word in FATES if word in die.fate]
        assert len({"kept", "dropped", "rerolled"} & set(die.fate)) == 1
        assert "kept" in die.fate or not {"success", "failure"} & set(die.fate)
    if spec.words(""):
        counts = [("success" in die.fate) - ("failure" in die.fate) for die in kept]
        assert result.total == sum(counts)
    else:
        assert result.total == sum(die.value for die in kept)
    added = 0 if spec.words("!!") else len(exploded)
    assert len(dice) == spec.count + len(rerolled) + added
    followed = {"rerolled"} if spec.words("!!") else {"rerolled", "exploded"}
    assert not dice or not followed & set(dice[-1].fate)
    for selection in spec.words("k", "kh", "kl"):
        assert len(kept) <= selection.number


def sums() -> st.SearchStrategy[tuple[str, Fraction | None]]:
    """An expression without dice and its exact value; None where something is divided by zero."""
    whole = st.integers(0, 99).map(lambda n: (str(n), Fraction(n)))
    decimal = st.integers(0, 999).map(lambda n: (f"{n / 100:.2f}", Fraction(n, 100)))
    return st.recursive(whole | decimal, combined, max_leaves=8)


def combined(
    inner: st.SearchStrategy[tuple[str, Fraction | None]],
) -> st.SearchStrategy[tuple[str, Fraction | None]]:
    def infix(
        left: tuple[str, Fraction | None], operator: str, right: tuple[str, Fraction | None]
    ) -> tuple[str, Fraction | None]:
        text = f"({left[0]}) {operator}[x]({right[0]})"
        one, other = left[1], right[1]
        if one is None or other is None or (operator == "/" and other == 0):
            return text, None
        worked = {"+": one + other, "-": one - other, "*": one * other}
        return text, worked[operator] if operator in worked else one / other

    def called(name: str, inside: tuple[str, Fraction | None]) -> tuple[str, Fraction | None]:
        text, value = inside
        functions: dict[str, Callable[[Fraction], int | Fraction]] = {
            "floor": math.floor,
            "ceil": math.ceil,
            "abs": abs,
            "-": lambda it: -it,
        }
        return f"{name}({text})", None if value is None else Fraction(functions[name](value))

    def chosen(
        name: str, several: list[tuple[str, Fraction | None]]
    ) -> tuple[str, Fraction | None]:
        text = f"{name}({','.join(text for text, _ in several)})"
        values = [value for _, value in several if value is not None]
        if len(values) < len(several):
            return text, None
        return text, min(values) if name == "min" else max(values)

    return (
        st.builds(infix, inner, st.sampled_from("+-*/"), inner)
        | st.builds(called, st.sampled_from(["floor", "ceil", "abs", "-"]), inner)
        | st.builds(
            chosen, st.sampled_from(["min", "max"]), st.lists(inner, min_size=1, max_size=3)
        )
    )


@given(sums())
def test_arithmetic_agrees_with_exact_fractions(case: tuple[str, Fraction | None]) -> None:
    text, value = case
    assume(len(text) <= 200)
    result = outcome(text, faces_of(0))
    if isinstance(result, Roll):
        assert value is not None
        rounded = float(round(value, 6))
        assert result.total == rounded
        assert isinstance(result.total, int) == rounded.is_integer()
    elif isinstance(result, Conflict):
        assert value is None
    else:
        assert "the result passes" in result.detail


@given(st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(1, 30)), min_size=1, max_size=20))
def test_precedence_is_pythons(links: list[tuple[str, int]]) -> None:
    text = "7" + "".join(operator + str(number) for operator, number in links)
    exact = "Fraction(7)" + "".join(f"{operator}Fraction({number})" for operator, number in links)
    value = eval(exact, {"Fraction": Fraction})  # noqa: S307 - our own digits and signs
    assume(abs(value) < 2**50)
    result = outcome(text, faces_of(0))
    if isinstance(result, Roll):
        assert result.total == float(round(value, 6))
    else:
        assert "the result passes" in result.detail


PIECES = [
    *"0123456789dDkKhlrofF!p<>=+-*/()[],.%# ",
    *(
        "1d6",
        "2d20",
        "d%",
        "4dF",
        "kh1",
        "dl",
        "!!",
        "!p",
        ">=5",
        "r<3",
        "ro1",
        "f1",
        "[x]",
        "max(",
        "floor(",
        "1000d",
    ),
    *("\x00", "\n", "é", "\N{GAME DIE}", "\N{MINUS SIGN}", "999999999"),
]


@given(
    st.one_of(
        st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
        st.builds(
            lambda spec, at, piece: spec.text[:at] + piece + spec.text[at:],
            specs(),
            st.integers(0, 30),
            st.sampled_from(PIECES),
        ),
        st.text(max_size=220),
    ),
    st.integers(0, 2**32),
)
@example("1000d1000000!>1", 0)
@example("1000d1000000r>1", 0)
@example("1000d1000000!!>1r>2", 0)
@example("-" * 199, 0)
@example("1/9" * 60, 0)
@example("\ud800", 0)
def test_any_text_is_rolled_or_refused_with_its_place(text: str, seed: int) -> None:
    throws = 0
    given_faces = faces_of(seed)

    def draw(sides: int) -> int:
        nonlocal throws
        throws += 1
        return given_faces(sides)

    result = outcome(text, draw)
    assert throws <= 3_001
    if isinstance(result, Roll):
        assert len(text) <= 200
        assert len(result.dice) <= 3_000
        assert math.isfinite(result.total)
        assert abs(result.total) <= MAX_RESULT
        msgspec.json.encode(result)
        return
    result.detail.encode()
    assert result.what.endswith(".")
    assert result.mend.endswith(".")
    if isinstance(result, IllFormed):
        assert 0 <= result.position <= len(text)
        named = f"character {result.position + 1}" in result.what
        assert named or "nothing to roll" in result.what or len(text) > 200
    else:
        assert isinstance(result, Conflict)
        assert "by zero" in result.detail

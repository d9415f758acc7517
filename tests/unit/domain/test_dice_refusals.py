"""What a player is told when an expression cannot be rolled: the place is right and the sentences help."""

import re
from itertools import product

import pytest

from tableforge.domain.dice import IllFormed, roll
from tableforge.domain.dice_grammar import MAX_CHARACTERS, MAX_DEPTH

SEED = b"sixteen bytes !!"


def refused(expression: str) -> IllFormed:
    with pytest.raises(IllFormed) as refusal:
        roll(expression, SEED)
    return refusal.value


@pytest.mark.parametrize(
    ("expression", "position", "says"),
    [
        # nothing, or not enough
        ("", 0, "There is nothing to roll. Write dice such as 2d6+3."),
        ("  \t ", 0, "There is nothing to roll."),
        ("# attack", 0, "There is nothing to roll."),
        ("[fire]", 0, "There is nothing to roll."),
        ("2d", 1, "There is no die after the 'd' at character 2. Write d6, d% or dF."),
        ("1 + d # fire", 4, "There is no die after the 'd' at character 5."),
        ("2dx", 1, "There is no die after the 'd' at character 2."),
        ("d(6)", 0, "There is no die after the 'd' at character 1."),
        ("d-6", 0, "There is no die after the 'd' at character 1."),
        (
            "1d20+",
            4,
            "Nothing follows the '+' at character 5. Add a number or dice, or take it away.",
        ),
        ("1d20 + # sneak", 5, "Nothing follows the '+' at character 6."),
        ("-", 0, "Nothing follows the '-' at character 1."),
        ("1d6>", 3, "There is no whole number after '>' at character 4. Write one, as in >=5."),
        ("1d6>=-", 5, "There is no whole number after '-' at character 6."),
        ("1d6!>=p", 4, "There is no whole number after '>=' at character 5."),
        ("1d6==3", 3, "There is no whole number after '=' at character 4."),
        ("max 3", 0, "There is no '(' after 'max' at character 1. Write max(...)."),
        # something else than a number or dice
        ("*3", 0, "'*' at character 1 stands where a number or dice should be."),
        ("1+*2", 2, "'*' at character 3 stands where"),
        ("()", 1, "')' at character 2 stands where"),
        ("max()", 4, "')' at character 5 stands where"),
        ("max(1,,2)", 6, "',' at character 7 stands where"),
        ("kh3", 0, "'kh' at character 1 stands where"),
        ("\N{SUPERSCRIPT TWO}d6", 0, "'\N{SUPERSCRIPT TWO}' at character 1 stands where"),
        ("\N{ARABIC-INDIC DIGIT THREE}d6", 0, "at character 1 stands where"),
        ("\N{GAME DIE}", 0, "'\N{GAME DIE}' at character 1 stands where"),
        # something that does not continue
        ("4d6kh3 5", 7, "There is no operator before '5' at character 8."),
        ("1d6 2d6", 4, "There is no operator before '2' at character 5."),
        ("2(3)", 1, "There is no operator before '(' at character 2."),
        ("1 .5", 2, "There is no operator before '.5' at character 3."),
        ("1d6max(2)", 3, "There is no operator before 'max' at character 4."),
        ("2d6d6", 3, "The 'd' at character 4 does not follow a plain number of dice."),
        ("(2)d6", 3, "The 'd' at character 4 does not follow a plain number of dice."),
        ("1.5d6", 3, "The 'd' at character 4 does not follow a plain number of dice."),
        ("d1.5", 2, "There is '.5' at character 3, but with dice only whole numbers can be used."),
        ("4d6k1.5", 5, "There is '.5' at character 6, but with dice only whole numbers"),
        ("1d6>3.5", 5, "There is '.5' at character 6, but with dice only whole numbers"),
        ("(2d6)kh1", 5, "The 'kh' at character 6 does not follow dice."),
        ("5>3", 1, "The '>' at character 2 does not follow dice."),
        ("5!", 1, "The '!' at character 2 does not follow dice."),
        ("1,000", 1, "The ',' at character 2 is not between the values of min or max."),
        ("2d6,3", 3, "The ',' at character 4 is not between"),
        ("5%2", 1, "The '%' at character 2 does not belong there."),
        ("1d6;2", 3, "The ';' at character 4 does not belong there."),
        ("1.", 1, "The '.' at character 2 does not belong there."),
        ("4d6!!p", 5, "The 'p' at character 6 does not belong there."),
        ("1d6\x00", 3, "The U+0000 at character 4 does not belong there."),
        # words
        ("dragon", 0, "'dragon' at character 1 means nothing here. Words belong in [brackets]"),
        ("1d20 + dexterity", 7, "'dexterity' at character 8 means nothing here."),
        ("1d6 attack", 4, "'attack' at character 5 means nothing here."),
        ("round(2.5)", 0, "'round' at character 1 means nothing here."),
        ("maximum(1)", 0, "'maximum' at character 1 means nothing here."),
        ("2d6khr x", 7, "'x' at character 8 means nothing here."),
        ("4d6khx3", 3, "'khx' at character 4 means nothing here."),
        # signs that look like others
        (
            "2\N{MULTIPLICATION SIGN}3",
            1,
            "at character 2 is not the sign it looks like. Write * there.",
        ),
        ("2d6\N{MINUS SIGN}1", 3, "at character 4 is not the sign it looks like. Write - there."),
        ("2d6\N{EN DASH}1", 3, "Write - there."),
        (
            "5d6 \N{GREATER-THAN OR EQUAL TO} 4",
            4,
            "at character 5 is not the sign it looks like. Write >= there.",
        ),
        # brackets
        ("(1d6", 0, "The '(' at character 1 is never closed. Add the ')'."),
        ("(1+(2)", 0, "The '(' at character 1 is never closed."),
        ("max(1,2", 3, "The '(' at character 4 is never closed."),
        ("(1 # )", 0, "The '(' at character 1 is never closed."),
        ("(1[)]", 0, "The '(' at character 1 is never closed."),
        ("1d6)", 3, "The ')' at character 4 closes nothing."),
        ("1d6[fire", 3, "The label that begins at character 4 does not end."),
        ("1d6[fi[re]", 3, "The label that begins at character 4 does not end."),
        ("1d6]", 3, "The ']' at character 4 ends no label."),
        # modifiers that make no sense together
        ("6d10f1", 4, "'f' at character 5 counts failures, but nothing says what succeeds."),
        ("4dFf-1", 3, "'f' at character 4 counts failures"),
        (
            "6d10>=7>=8",
            7,
            "At character 8 stands '>=', but this pool already says what counts as a success.",
        ),
        (
            "6d10>=7f1f2",
            9,
            "At character 10 stands 'f', but this pool already says what counts as a failure.",
        ),
        ("4d6!kh!!", 6, "At character 7 stands '!!', but this pool already explodes."),
        ("1d6r!=6", 4, "'!=' at character 5 can be read in two ways. Write <> for"),
        ("1d6ro !=6", 6, "'!=' at character 7 can be read in two ways."),
        ("6d6>=4f!=1", 7, "'!=' at character 8 can be read in two ways."),
        (
            "1d6r<=6",
            3,
            "With the reroll at character 4 every face would be rolled again, for ever.",
        ),
        ("2d6r>3kh1r<=3", 9, "With the reroll at character 10 every face"),
        ("1d1r", 3, "With the reroll at character 4 every face"),
        ("1d6ro<7", 3, "The reroll at character 4 takes every face"),
        ("4dFr<>2", 3, "With the reroll at character 4 every face"),
        ("1d1!", 3, "With '!' at character 4 every face would explode, for ever."),
        ("1d6!!>=1", 3, "With '!!' at character 4 every face would explode"),
        ("1d6!p<7", 3, "With '!p' at character 4 every face would explode"),
        ("floor(1,2)", 0, "'floor' at character 1 takes one value and was given 2."),
        ("1+abs(1,2,3)", 2, "'abs' at character 3 takes one value and was given 3."),
        # sizes
        (
            "d0",
            1,
            "A die with 0 sides, as at character 2, cannot be thrown. Dice have 1 to 1000000 sides.",
        ),
        ("1d1000001", 2, "A die with 1000001 sides, as at character 3, cannot be thrown."),
        ("d" + "9" * 150, 1, "A die with so many sides, as at character 2, cannot be thrown."),
        ("1001d6", 0, "With the dice at character 1 there are more than 1000 in all."),
        ("600d6+401d6", 6, "With the dice at character 7 there are more than 1000 in all."),
        ("max(500d6, 500d6) + d6", 20, "With the dice at character 21 there are more than 1000"),
        ("1000000001", 0, "The number at character 1 is larger than 1000000000."),
        ("1+1000000000.5", 2, "The number at character 3 is larger than"),
        ("9" * 150 + "d6", 0, "The number at character 1 is larger than"),
        ("1d6kh1000000001", 5, "The number at character 6 is larger than"),
        ("1d6>=-1000000001", 6, "The number at character 7 is larger than"),
    ],
)
def test_refusals(expression: str, position: int, says: str) -> None:
    refusal = refused(expression)

    assert says in refusal.detail
    assert refusal.position == position
    assert refusal.code == "malformed"
    assert refusal.http_status == 400


def test_the_bound_on_characters() -> None:
    longest = "1" + " " * (MAX_CHARACTERS - 1)
    assert roll(longest, SEED).total == 1

    refusal = refused(longest + " ")
    assert refusal.position == MAX_CHARACTERS
    assert "longer than 200 characters" in refusal.detail
    assert refused("1" * 100_000).position == MAX_CHARACTERS


@pytest.mark.parametrize("opening", ["(", "max(", "-("])
def test_the_bound_on_depth(opening: str) -> None:
    def nested(depth: int) -> str:
        return opening * depth + "1" + ")" * depth

    assert abs(roll(nested(MAX_DEPTH), SEED).total) == 1
    refusal = refused(nested(MAX_DEPTH + 1))
    assert refusal.position == len(opening) * (MAX_DEPTH + 1) - 1
    assert "more than 20 parentheses are open" in refusal.detail


def test_the_bound_on_dice_is_exact() -> None:
    assert len(roll("600d6+400d6", SEED).dice) == 1_000


@pytest.mark.parametrize("modifier", ["r", "ro", "!", "!!", "!p"])
@pytest.mark.parametrize("die", ["d1", "d2", "d3", "d6", "dF"])
def test_refused_exactly_when_every_face_passes(die: str, modifier: str) -> None:
    faces = {"d1": [1], "d2": [1, 2], "d3": [1, 2, 3], "d6": list(range(1, 7)), "dF": [-1, 0, 1]}
    passes = {
        "=": lambda face, number: face == number,
        "<>": lambda face, number: face != number,
        "<": lambda face, number: face < number,
        "<=": lambda face, number: face <= number,
        ">": lambda face, number: face > number,
        ">=": lambda face, number: face >= number,
    }
    for compare, number in product(passes, range(-3, 9)):
        expression = f"1{die}{modifier}{compare}{number}"
        if all(passes[compare](face, number) for face in faces[die]):
            assert re.search("every face", refused(expression).detail), expression
        else:
            assert roll(expression, SEED).dice, expression

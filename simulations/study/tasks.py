"""Families of questions made by programs, after tasks of BIG-Bench, and their splits.

A question is a few characters, and its answer is worked out in short steps:

=========================  =======================  =======================
family                     prompt                   work
=========================  =======================  =======================
multistep_arithmetic       7-3*5                    3*5=15;7-15=-8;-8
dyck_languages             ([]{<>                   ({;})
tracking_shuffled_objects  dacb 12 34 13 ?3         adcb;adbc;bdac;a
logical_deduction          b<c a>c d<b ?2           dbca;b
coloured_objects           rP gB bK yC <K           K3;2B=g;g
boolean_expressions        !T&F|T|F&!F              F&F|T|F&T;F|T|F;T
causal_judgement           c=a&b e=c|d a1b0d1 ?e-a  a0;c0;e1;y
formal_logic               p>q Q :P                 1101;1010;1100;0000;y
=========================  =======================  =======================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise, permutations, product

# Questions of a family at most, and those that are the same whatever the seed.
MOST = 6000
TEST = 1000
VALIDATION = 500
# Questions without labels, at most.
UNLABELLED = 1000

YES_NO = ("y", "n")
TRUTHS = ("T", "F")
OBJECTS = "abcd"
COLOURS = "rgbyw"
THINGS = "PBKCH"
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
# Capitals are negated: "P" says that p is false.
LITERALS = ("p", "q", "P", "Q")


@dataclass(frozen=True)
class Question:
    """What is asked, and what is learnt of it.

    The work is steps between semicolons, the last of which is the answer.
    """

    prompt: str
    work: str
    answer: str


@dataclass(frozen=True)
class Family:
    """Questions of one kind.

    Attributes
    ----------
    name : str
        As in BIG-Bench.
    teacher : str
        Which teacher knows it.
    labels : int
        Questions whose work the student is given.
    choices : tuple of str
        All answers one may give; empty where they are many.
    make : callable
        Returns all of its questions, or a fixed sample of them, no two alike.
    """

    name: str
    teacher: str
    labels: int
    choices: tuple[str, ...]
    make: Callable[[], list[Question]]


@dataclass(frozen=True)
class Split:
    """Questions to test on, to choose settings by, and to learn from.

    No question is in two of them.
    """

    test: tuple[Question, ...]
    validation: tuple[Question, ...]
    labelled: tuple[Question, ...]
    unlabelled: tuple[Question, ...]


@dataclass(frozen=True)
class Parts:
    """The questions of a family that are held out, and all others."""

    test: tuple[Question, ...]
    validation: tuple[Question, ...]
    rest: tuple[Question, ...]


@cache
def parts(family: Family) -> Parts:
    """Part the questions of a family, in the same way each time."""
    questions = family.make()
    random.Random(f"{family.name} held out").shuffle(questions)
    held_out = TEST + VALIDATION
    return Parts(
        test=tuple(questions[:TEST]),
        validation=tuple(questions[TEST:held_out]),
        rest=tuple(questions[held_out:]),
    )


def split(family: Family, seed: int) -> Split:
    """Draw questions with and without labels; those held out are always the same."""
    held_out = parts(family)
    drawn = list(held_out.rest)
    random.Random(f"{family.name} {seed}").shuffle(drawn)
    end = family.labels + UNLABELLED
    return Split(
        test=held_out.test,
        validation=held_out.validation,
        labelled=tuple(drawn[: family.labels]),
        unlabelled=tuple(drawn[family.labels : end]),
    )


def _question(prompt: str, *steps: str) -> Question:
    """A question whose last step is its answer."""
    return Question(prompt, ";".join(steps), steps[-1])


def _sample(questions: Iterable[Question], count: int = MOST) -> list[Question]:
    """At most so many of the questions, always the same."""
    distinct = sorted(set(questions), key=lambda question: question.prompt)
    random.Random(0).shuffle(distinct)
    return distinct[:count]


def _balanced(questions: Iterable[Question], choices: Sequence[str]) -> list[Question]:
    """As many questions of one answer as of the other."""
    of_answer: dict[str, list[Question]] = {choice: [] for choice in choices}
    for question in questions:
        of_answer[question.answer].append(question)
    fewest = min(len(set(chosen)) for chosen in of_answer.values())
    count = min(fewest, MOST // len(choices))
    balanced = []
    for chosen in of_answer.values():
        balanced += _sample(chosen, count)
    return _sample(balanced)


# multistep_arithmetic


def _arithmetic() -> list[Question]:
    """Three digits and two signs; products are small."""
    digits = range(1, 10)
    signs = [pair for pair in product("+-*", repeat=2) if pair != ("*", "*")]
    questions = []
    for numbers in product(digits, repeat=3):
        for pair in signs:
            at = pair.index("*") if "*" in pair else 0
            if pair[at] == "*" and numbers[at] * numbers[at + 1] > 20:
                continue
            questions.append(_sum(numbers, pair, at))
    return _sample(questions)


def _sum(numbers: tuple[int, ...], signs: tuple[str, ...], at: int) -> Question:
    """A question whose sign ``at`` is computed first."""
    a, b, c = numbers
    prompt = f"{a}{signs[0]}{b}{signs[1]}{c}"
    first = _compute(numbers[at], signs[at], numbers[at + 1])
    if at == 0:
        left, sign, right = first, signs[1], c
    else:
        left, sign, right = a, signs[0], first
    last = _compute(left, sign, right)
    return _question(
        prompt,
        f"{numbers[at]}{signs[at]}{numbers[at + 1]}={first}",
        f"{left}{sign}{right}={last}",
        str(last),
    )


def _compute(left: int, sign: str, right: int) -> int:
    if sign == "*":
        return left * right
    return left + right if sign == "+" else left - right


# dyck_languages


def _dyck() -> list[Question]:
    """Brackets of which some are open: the open ones, then what closes them."""
    draws = random.Random(0)
    questions = set()
    while len(questions) < MOST:
        length = draws.randint(5, 9)
        text = ""
        opened = ""
        while len(text) < length:
            if opened and draws.random() < 0.3:
                text += CLOSING[opened[-1]]
                opened = opened[:-1]
            else:
                bracket = draws.choice("([{<")
                text += bracket
                opened += bracket
        if 3 <= len(opened) <= 5:
            closing = "".join(CLOSING[bracket] for bracket in reversed(opened))
            questions.add(_question(text, opened, closing))
    return _sample(questions)


# tracking_shuffled_objects


def _tracking() -> list[Question]:
    """Objects in a row, three swaps of places, and which one is at a place then."""
    swaps = tuple(combinations(range(4), 2))
    questions = []
    for start in permutations(OBJECTS):
        for chosen in product(swaps, repeat=3):
            row = list(start)
            rows = []
            for i, j in chosen:
                row[i], row[j] = row[j], row[i]
                rows.append("".join(row))
            told = " ".join(f"{i + 1}{j + 1}" for i, j in chosen)
            for place in range(4):
                prompt = f"{''.join(start)} {told} ?{place + 1}"
                questions.append(_question(prompt, *rows, row[place]))
    return _sample(questions)


# logical_deduction


def _deduction() -> list[Question]:
    """Three comparisons of neighbours, and who is at a place of the order."""
    questions = []
    for order in permutations(OBJECTS):
        neighbours = tuple(pairwise(order))
        for told in permutations(neighbours):
            for turned in product((False, True), repeat=3):
                clues = [
                    f"{right}>{left}" if turn else f"{left}<{right}"
                    for (left, right), turn in zip(told, turned, strict=True)
                ]
                for place in range(4):
                    prompt = f"{' '.join(clues)} ?{place + 1}"
                    questions.append(
                        _question(prompt, "".join(order), order[place]),
                    )
    return _sample(questions)


# coloured_objects


def _coloured() -> list[Question]:
    """Coloured things in a row: a thing's colour, a neighbour's, or a number."""
    draws = random.Random(0)
    questions = set()
    while len(questions) < MOST:
        things = draws.sample(THINGS, 4)
        colours = [draws.choice(COLOURS) for _ in things]
        questions.add(_about_row(things, colours, draws))
    return _sample(questions)


def _about_row(
    things: Sequence[str], colours: Sequence[str], draws: random.Random
) -> Question:
    """One question about a row."""
    row = " ".join(c + t for c, t in zip(colours, things, strict=True))
    kind = draws.choice("?<>#")
    if kind == "#":
        colour = draws.choice(colours)
        places = [i for i in range(4) if colours[i] == colour]
        found = "".join(f"{i + 1}{things[i]}" for i in places)
        number = len(places)
        return _question(f"{row} #{colour}", f"{found}={number}", str(number))
    offset = {"?": 0, "<": -1, ">": 1}[kind]
    asked = draws.choice([i for i in range(4) if 0 <= i + offset < 4])
    place = asked + offset
    colour = colours[place]
    last = (f"{place + 1}{things[place]}={colour}", colour)
    if offset == 0:
        return _question(f"{row} ?{things[asked]}", *last)
    return _question(
        f"{row} {kind}{things[asked]}", f"{things[asked]}{asked + 1}", *last
    )


# boolean_expressions


def _boolean() -> list[Question]:
    """Five values, of which some are negated: without negations, then without "and"."""
    leaves = ("T", "F", "!T", "!F")
    questions = []
    for chosen in product(leaves, repeat=5):
        for signs in product("&|", repeat=4):
            questions.append(_expression(chosen, signs))
    return _balanced(questions, TRUTHS)


def _expression(leaves: Sequence[str], signs: Sequence[str]) -> Question:
    """An expression, in which "and" binds closer than "or"."""
    prompt = _joined(leaves, signs)
    bare = _joined([_bare(leaf) for leaf in leaves], signs)
    terms = ["F" if "F" in term else "T" for term in bare.split("|")]
    return _question(prompt, bare, "|".join(terms), "T" if "T" in terms else "F")


def _joined(leaves: Sequence[str], signs: Sequence[str]) -> str:
    text = leaves[0]
    for sign, leaf in zip(signs, leaves[1:], strict=True):
        text += sign + leaf
    return text


def _bare(literal: str) -> str:
    """The value of a literal."""
    if literal.startswith("!"):
        return "F" if literal[1] == "T" else "T"
    return literal


# causal_judgement


def _causal() -> list[Question]:
    """Two rules and three facts: whether the last effect comes if one were otherwise.

    As many "y" as "n" for each pair of rules and each change: neither tells the answer.
    """
    groups: dict[tuple[str, ...], list[Question]] = {}
    for names in permutations("abcde"):
        for signs in product("&|", repeat=2):
            for facts in product((0, 1), repeat=3):
                for changed in range(3):
                    question = _world(names, signs, facts, changed)
                    groups.setdefault((*signs, question.prompt[-2]), []).append(
                        question
                    )
    found = []
    for questions in groups.values():
        # Without a cause, what needs all of them never comes: it is not asked for.
        if len({question.answer for question in questions}) == len(YES_NO):
            found += _balanced(questions, YES_NO)
    return _balanced(found, YES_NO)


def _world(
    names: Sequence[str], signs: Sequence[str], facts: Sequence[int], changed: int
) -> Question:
    """A world of two rules, and what happens in it if a fact were otherwise."""
    a, b, d, c, e = names
    told = "".join(f"{name}{fact}" for name, fact in zip((a, b, d), facts, strict=True))
    change = "-" if facts[changed] else "+"
    prompt = f"{c}={a}{signs[0]}{b} {e}={c}{signs[1]}{d} {told} ?{e}{change}"
    values = list(facts)
    values[changed] = 1 - facts[changed]
    middle = _effect(values[0], signs[0], values[1])
    last = _effect(middle, signs[1], values[2])
    return _question(
        f"{prompt}{names[changed]}",
        f"{names[changed]}{values[changed]}",
        f"{c}{middle}",
        f"{e}{last}",
        YES_NO[1 - last],
    )


def _effect(left: int, sign: str, right: int) -> int:
    return left & right if sign == "&" else left | right


# formal_logic


def _logic() -> list[Question]:
    """Two premises and a conclusion: where each is true, and whether it follows.

    Tables are over p and q: both false, q alone true, p alone true, both true. They are
    of each premise, of the conclusion, and of what is against it: the premises true
    and the conclusion false.
    """
    statements = [*LITERALS]
    for left, sign, right in product(LITERALS, "&|>", LITERALS):
        if left.lower() != right.lower():
            statements.append(f"{left}{sign}{right}")
    tables = {statement: _table(statement) for statement in statements}

    questions = []
    for first, second, conclusion in product(statements, repeat=3):
        both = tables[first] & tables[second]
        # Neither from a contradiction nor a premise said again.
        if both and conclusion not in (first, second):
            against = both & ~tables[conclusion]
            found = (tables[first], tables[second], tables[conclusion], against)
            question = _question(
                f"{first} {second} :{conclusion}",
                *(f"{table:04b}" for table in found),
                "n" if against else "y",
            )
            questions.append(question)
    return _balanced(questions, YES_NO)


def _table(statement: str) -> int:
    """Where a statement is true: a bit for each pair of values of p and q."""
    found = 0
    for p, q in product((False, True), repeat=2):
        true = {"p": p, "q": q, "P": not p, "Q": not q}
        left, among, right = statement, "", ""
        for sign in "&|>":
            if sign in statement:
                left, among, right = statement.partition(sign)
        holds = {
            "": lambda x, _: x,
            "&": lambda x, y: x and y,
            "|": lambda x, y: x or y,
            ">": lambda x, y: y or not x,
        }[among](true[left], true.get(right, False))
        found = 2 * found + holds
    return found


FAMILIES = {
    family.name: family
    for family in (
        Family("multistep_arithmetic", "packed", 600, (), _arithmetic),
        Family("dyck_languages", "byte", 220, (), _dyck),
        Family("tracking_shuffled_objects", "packed", 600, (*OBJECTS,), _tracking),
        Family("logical_deduction", "bpe", 300, (*OBJECTS,), _deduction),
        Family("coloured_objects", "bpe", 600, (), _coloured),
        Family("boolean_expressions", "byte", 100, TRUTHS, _boolean),
        Family("causal_judgement", "bpe", 100, YES_NO, _causal),
        Family("formal_logic", "byte", 200, YES_NO, _logic),
    )
}

"""Questions of the study: their answers by other means, and what a split holds."""

import re
from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import pytest

from simulations.study.tasks import CLOSING, FAMILIES, TEST, VALIDATION, parts, split


def arithmetic(prompt):
    return str(eval(prompt))


def brackets(prompt):
    while True:
        shorter = re.sub(r"\(\)|\[\]|\{\}|<>", "", prompt)
        if shorter == prompt:
            return "".join(map(CLOSING.__getitem__, prompt[::-1]))
        prompt = shorter


def swaps(prompt):
    row, *told, asked = prompt.split()
    place = int(asked[1])
    # Back from the end: where the object of this place was before each swap.
    for i, j in reversed([map(int, swap) for swap in told]):
        place = {i: j, j: i}.get(place, place)
    return row[place - 1]


def order(prompt):
    *clues, asked = prompt.split()
    orders = [
        found
        for found in permutations("abcd")
        if all(
            (found.index(left) < found.index(right)) == (sign == "<")
            for left, sign, right in clues
        )
    ]
    assert len(orders) == 1
    return orders[0][int(asked[1]) - 1]


def colours(prompt):
    *row, (kind, asked) = prompt.split()
    if kind == "#":
        return str(sum(colour == asked for colour, _ in row))
    things = [thing for _, thing in row]
    return row[things.index(asked) + {"<": -1, "?": 0, ">": 1}[kind]][0]


def boolean(prompt):
    words = {"T": "True", "F": "False", "!": " not ", "&": " and ", "|": " or "}
    return "FT"[eval("".join(words[sign] for sign in prompt).strip())]


def causes(prompt):
    *rules, told, asked = prompt.split()
    values = {name: value == "1" for name, value in re.findall(r"(\w)(\d)", told)}
    # "-": without what there is; "+": with what there is not.
    assert values[asked[-1]] == (asked[-2] == "-")
    values[asked[-1]] = asked[-2] == "+"
    for effect, _, left, sign, right in rules:
        both = values[left], values[right]
        values[effect] = all(both) if sign == "&" else any(both)
    return "y" if values[asked[1]] else "n"


def logic(prompt):
    first, second, conclusion = prompt.replace(":", "").split()

    def holds(statement, p, q):
        words = statement.replace("P", " (not p) ").replace("Q", " (not q) ")
        words = words.replace("&", " and ").replace("|", " or ")
        if ">" in words:
            left, right = words.split(">")
            words = f"not ({left}) or ({right})"
        return eval(words.strip(), {"p": p, "q": q})

    models = [
        values
        for values in product((False, True), repeat=2)
        if holds(first, *values) and holds(second, *values)
    ]
    assert models
    return "y" if all(holds(conclusion, *values) for values in models) else "n"


CHECKERS = {
    "multistep_arithmetic": arithmetic,
    "dyck_languages": brackets,
    "tracking_shuffled_objects": swaps,
    "logical_deduction": order,
    "coloured_objects": colours,
    "boolean_expressions": boolean,
    "causal_judgement": causes,
    "formal_logic": logic,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_are_right_and_end_the_work(name):
    questions = FAMILIES[name].make()
    for question in questions:
        assert CHECKERS[name](question.prompt) == question.answer
        assert question.work.rpartition(";")[2] == question.answer
        assert len(question.prompt) <= 30
        assert 6 <= len(question.work) <= 24
    assert len({question.prompt for question in questions}) == len(questions)
    assert questions == FAMILIES[name].make()


@pytest.mark.parametrize("name", FAMILIES)
def test_no_answer_is_given_by_chance(name):
    family = FAMILIES[name]
    questions = parts(family).test
    frequency = Counter(question.answer for question in questions)
    share = max(frequency.values()) / len(questions)
    if family.choices:
        assert set(frequency) == set(family.choices)
        assert share <= 1.1 / len(family.choices)
    else:
        assert share <= 0.2


def test_neither_rules_nor_the_change_tell_what_a_cause_does():
    of_kind = {}
    for question in FAMILIES["causal_judgement"].make():
        prompt = question.prompt
        kind = (prompt[3], prompt[9], prompt[-2])
        of_kind.setdefault(kind, Counter())[question.answer] += 1
    assert len(of_kind) == 6
    for answers in of_kind.values():
        assert answers["y"] == pytest.approx(answers["n"], rel=0.1)


def test_sums_of_two_steps_are_worked_out():
    works = {q.prompt: q.work for q in FAMILIES["multistep_arithmetic"].make()}
    assert works["7-3*5"] == "3*5=15;7-15=-8;-8"
    assert works["3*5-7"] == "3*5=15;15-7=8;8"


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_held_out_is_the_same_for_every_seed(name):
    family = FAMILIES[name]
    one, again, other = (split(family, seed) for seed in (0, 0, 1))
    assert one == again
    assert (len(one.test), len(one.validation)) == (TEST, VALIDATION)
    assert (one.test, one.validation) == (other.test, other.validation)
    assert len(one.labelled) == family.labels
    assert one.labelled != other.labelled
    assert len(one.unlabelled) >= min(1000, 3 * family.labels)
    everything = [*one.test, *one.validation, *one.labelled, *one.unlabelled]
    assert len(set(everything)) == len(everything)


def test_more_labels_leave_the_held_out_questions_as_they_are():
    family = FAMILIES["dyck_languages"]
    fewer, more = (split(replace(family, labels=n), 0) for n in (30, 60))
    assert more.labelled[:30] == fewer.labelled
    assert more.test == fewer.test

"""Problems: the same for the same seed, read as written, or refused."""

import json

import pytest

from fusion import tasks

reasoning_gym = pytest.importorskip("reasoning_gym")


def told(problems):
    return [(p.prompt, p.answer, p.task) for p in problems]


def test_a_seed_determines_the_problems():
    first, again, other = (
        tasks.read_problems(f"reasoning-gym:chain_sum+leg_counting:5:{seed}")
        for seed in (1, 1, 2)
    )
    assert told(first) == told(again) != told(other)
    assert [p.task for p in first] == ["chain_sum", "leg_counting"] * 2 + ["chain_sum"]
    assert len({p.prompt for p in first}) == 5


def test_seeds_share_no_problems():
    first, second = (
        {p.prompt for p in tasks.reasoning_gym_problems(["chain_sum"], 30, seed)}
        for seed in (0, 1)
    )
    assert not first & second


def test_the_answer_solves_its_problem_and_another_does_not():
    for problem in tasks.reasoning_gym_problems(
        ["chain_sum", "spell_backward", "gcd"], 6
    ):
        assert problem.solved_by(problem.answer)
        assert problem.solved_by(f"  {problem.answer.upper()} \n")
        assert not problem.solved_by(f"{problem.answer}7")
        assert not problem.solved_by("")


def test_answers_that_are_as_good_are_accepted():
    (problem,) = tasks.reasoning_gym_problems(["countdown"], 1)
    swapped = next(
        text
        for text in (
            " + ".join(reversed(problem.answer.split(" + "))),
            f"({problem.answer})",
        )
        if text != problem.answer
    )
    assert problem.solved_by(swapped)


def test_examples_hold_prompt_answer_and_domain():
    (problem,) = tasks.reasoning_gym_problems(["gcd"], 1)
    example = problem.example()
    assert (example.prompt, example.domain) == (problem.prompt, "gcd")
    assert example.completion == f"<answer>{problem.answer}</answer>"
    assert tasks.read_data("reasoning-gym:gcd:1") == [example]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("reasoning-gym:list_functions:3", "reproducible"),
        ("reasoning-gym:no_such_task:3", "'no_such_task' is none"),
        ("reasoning-gym:gcd:0", "must not be empty"),
        ("reasoning-gym:gcd", "TASK:SIZE:SEED"),
        ("reasoning-gym:gcd:many", "TASK:SIZE:SEED"),
        ("reasoning-gym:gcd:1:2:3", "TASK:SIZE:SEED"),
    ],
)
def test_bad_specifications_are_refused(source, words):
    with pytest.raises(ValueError, match=words) as caught:
        tasks.read_problems(source)
    assert "\n" not in str(caught.value)


def test_lines_are_read_as_written(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [
        {"prompt": "1 + 1 =", "answer": "2", "task": "sums"},
        {
            "prompt": [{"role": "user", "content": "Yes?"}],
            "answer": "no",
            "domain": "logic",
            "choices": ["yes", "no"],
        },
        {"prompt": "a", "answer": "b", "choices": []},
        {"prompt": "a", "answer": "b", "choices": None},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, *others = tasks.read_problems(str(path))
    assert (first.prompt, first.answer, first.task, first.choices) == (
        "1 + 1 =",
        "2",
        "sums",
        (),
    )
    assert (second.prompt, second.task, second.choices) == (
        (("user", "Yes?"),),
        "logic",
        ("yes", "no"),
    )
    assert [problem.choices for problem in others] == [(), ()]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"prompt": "a"}',
        '{"prompt": "", "answer": "b"}',
        '{"prompt": "a", "answer": 1}',
    ],
)
def test_bad_lines_are_named(tmp_path, line):
    path = tmp_path / "problems.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"(?i)line 2"):
        tasks.read_problems(str(path))


@pytest.mark.parametrize(
    "choices",
    ["xy", "", "b", {"b": 1}, {}, 2, 0, True, False, [1, 2], ["b", None], [["b"]]],
)
def test_choices_that_are_no_list_of_texts_are_refused(tmp_path, choices):
    path = tmp_path / "problems.jsonl"
    good = {"prompt": "a", "answer": "b"}
    rows = [good, good | {"choices": choices}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"Line 2 .*choices must be a list") as caught:
        tasks.read_problems(str(path))
    assert "\n" not in str(caught.value)

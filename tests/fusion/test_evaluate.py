"""Scores: what is an answer, what guessing gives, and generation token by token."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion import evaluate
from fusion.tasks import Problem

answers = st.sampled_from(["yes", "no", "7", "a b"])


def problems_of(wanted, task="t", choices=()):
    return [Problem("?", answer, task, choices) for answer in wanted]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>12</answer>", "12"),
        ("so <answer> 1 </answer> no, <ANSWER>2\n</ANSWER> done", "2"),
        ("<answer></answer>", ""),
        (r"thus \boxed{x^2}", "x^2"),
        ("work\n#### 5", "5"),
        ("The answer is: 42.", "42"),
        ("the answer is yes\nor so", "yes"),
        (r"\boxed{1} but <answer>2</answer>", "2"),
        ("<answer>12", None),
        ("12", None),
        ("", None),
    ],
)
def test_extraction(text, answer):
    assert evaluate.extract(text) == answer


@given(st.lists(st.tuples(answers, answers, st.booleans()), min_size=1, max_size=20))
def test_only_extracted_answers_count(rows):
    texts = [
        f"<answer>{given}</answer>" if stated else given for _, given, stated in rows
    ]
    (found,) = evaluate.score(problems_of([wanted for wanted, _, _ in rows]), texts)
    assert found.correct == sum(
        stated and wanted == given for wanted, given, stated in rows
    )
    assert found.unextracted == sum(not stated for *_, stated in rows)
    assert found.problems == len(rows)


@given(st.lists(answers, min_size=1, max_size=20), answers)
def test_no_constant_answer_beats_the_majority_baseline(wanted, constant):
    (found,) = evaluate.score(
        problems_of(wanted), [f"<answer>{constant}</answer>"] * len(wanted)
    )
    assert found.accuracy <= found.majority
    assert found.chance == pytest.approx(1 / len(set(wanted)))
    assert found.chance <= found.majority + 1e-12


def test_some_constant_answer_reaches_the_majority_baseline():
    wanted = ["a", "B", "b ", "c"]
    (found,) = evaluate.score(problems_of(wanted), ["<answer>b</answer>"] * 4)
    assert found.accuracy == found.majority == 0.5


def test_chance_is_that_of_the_choices_where_they_are_known():
    (found,) = evaluate.score(
        problems_of(["a", "a"], choices=("a", "b", "c", "d")), ["", ""]
    )
    assert found.chance == 0.25


def test_tasks_are_scored_apart_and_together():
    problems = [
        *problems_of(["a", "a"], "first"),
        *problems_of(["b"], "second"),
        *problems_of(["c", "d"], "first"),
    ]
    texts = [
        "<answer>a</answer>",
        "<answer>x</answer>",
        "<answer>b</answer>",
        "nothing",
        "<answer>d</answer>",
    ]
    first, second, both = evaluate.score(problems, texts)
    assert (first.task, first.problems, first.correct, first.unextracted) == (
        "first",
        4,
        2,
        1,
    )
    assert (second.task, second.problems, second.correct, second.unextracted) == (
        "second",
        1,
        1,
        0,
    )
    assert (both.task, both.problems, both.correct, both.unextracted) == (
        "all",
        5,
        3,
        1,
    )
    assert both.majority == pytest.approx((2 + 1) / 5)
    assert both.chance == pytest.approx((4 * (1 / 3) + 1) / 5)


@given(st.integers(1, 500), st.floats(0.0, 1.0))
def test_intervals_hold_the_accuracy_and_solve_wilsons_equation(n, share):
    found = evaluate.Score("t", n, round(share * n), 0, 0.0, 0.0)
    low, high = found.interval
    assert 0.0 <= low <= found.accuracy + 1e-12
    assert found.accuracy - 1e-12 <= high <= 1.0
    for end in (low, high):
        z2 = 1.959963984540054**2
        assert (found.accuracy - end) ** 2 == pytest.approx(
            z2 * end * (1 - end) / n, abs=1e-9
        )


@pytest.mark.parametrize("texts", [[], ["a", "b"]])
def test_one_text_for_each_problem(texts):
    with pytest.raises(ValueError, match="one text for each problem"):
        evaluate.score(problems_of(["a"]), texts)
    with pytest.raises(ValueError, match="one text for each problem"):
        evaluate.score([], [])


def test_table_has_a_row_for_each_score():
    text = evaluate.table([evaluate.Score("t", 4, 1, 2, 0.5, 0.25)])
    assert (
        text.splitlines()[-1] == "| t | 4 | 25.0% | 4.6% – 69.9% | 50.0% | 25.0% | 2 |"
    )


def test_generation_is_greedy_whatever_the_batch(llama):
    """Against the argmax of one forward pass a token, without padding or cache."""
    model, tokenizer = llama
    problems = [
        Problem(prompt, "x", "t")
        for prompt in ("one and two", "the", "a longer prompt than the others are")
    ]
    expected = []
    for problem in problems:
        ids = tokenizer(problem.prompt)["input_ids"]
        length = len(ids)
        while len(ids) < length + 6:
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            ids.append(token)
        expected.append(tokenizer.decode(ids[length:], skip_special_tokens=True))
    assert (
        evaluate.generate(model, tokenizer, problems, max_new_tokens=6, batch_size=1)
        == expected
    )
    assert (
        evaluate.generate(model, tokenizer, problems, max_new_tokens=6, batch_size=3)
        == expected
    )


def test_prompts_leave_room_for_an_answer_in_the_context(llama):
    model, tokenizer = llama
    context = model.config.max_position_embeddings
    problems = [Problem("sum ", "7", "t"), Problem("sum " * context, "7", "t")]
    with pytest.raises(ValueError, match=r"1 of 2 do not \(problems 2\): lower"):
        evaluate.generate(model, tokenizer, problems)
    with pytest.raises(ValueError, match=r"2 of 2 do not \(problems 1, 2\): lower"):
        evaluate.generate(model, tokenizer, problems, max_new_tokens=context)


def test_columns_of_no_token_are_never_chosen(llama):
    model, tokenizer = copy.deepcopy(llama[0]), llama[1]
    tokens = len(model.lm_head.weight)
    model.resize_token_embeddings(tokens + 3, mean_resizing=False)
    # Beside the likeliest token there would always be one that is as likely.
    model.lm_head.weight.data[tokens:] = 100 * model.lm_head.weight.data[:3]
    (text,) = evaluate.generate(model, tokenizer, [Problem("sum ", "7", "t")], 6)
    plain = evaluate.generate(*llama, [Problem("sum ", "7", "t")], 6)
    assert [text] == plain

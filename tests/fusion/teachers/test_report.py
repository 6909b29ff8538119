"""The report, against counts made by hand from rows whose hits are known."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from fusion.teachers.report import Knowledge, Relation, heatmap, report
from fusion.teachers.store import TeacherRows
from fusion.text.conversations import Example

HIT, SURE, UNSURE = "hit", "sure", "unsure"


def rows(told, ends):
    """Rows of a teacher that hits, or misses with a probability above or below 1/2."""
    top = {HIT: math.log(0.8), SURE: math.log(0.7), UNSURE: math.log(0.4)}
    target = {HIT: math.log(0.8), SURE: math.log(0.1), UNSURE: math.log(0.3)}
    n = len(told)
    logprobs = np.stack([[top[t], -5.0] for t in told])  # (n, 2)
    values = logprobs - logprobs[:, :1]
    return TeacherRows(
        values=values.astype(np.float16),
        ids=np.tile(np.array([7, 8], dtype=np.int32), (n, 1)),
        logsumexp=-logprobs[:, 0].astype(np.float32),
        mean=None,
        std=None,
        nll=np.array([-target[t] for t in told], dtype=np.float16),
        ends=np.array(ends, dtype=np.int32),
        shift=np.arange(n, dtype=np.float32) * 1000,  # which nothing hangs on
    )


FIRST = Example("a", "wxyz", "letters")
SECOND = Example("b", "12", "digits")
STORES = {
    "one": {
        FIRST.key: rows([HIT, HIT, SURE, UNSURE], [1, 2, 3, 4]),
        SECOND.key: rows([HIT, HIT], [1, 2]),
    },
    "two": {FIRST.key: rows([HIT, SURE, HIT], [1, 3, 4])},
}


def test_counts():
    found = report(STORES, [FIRST, SECOND])
    one, two, digits = found.knowledge
    assert one.domain == "letters"
    assert one.teacher == "one"
    assert one.examples == 1
    assert one.tokens == 4
    assert one.hits == 0.5
    # Two hits, and a miss of either kind, in four bytes.
    nll = -(2 * math.log(0.8) + math.log(0.1) + math.log(0.3)) / 4
    assert one.nll == pytest.approx(nll, rel=1e-3)
    # Two hits and a sure miss, in the same bytes.
    assert (two.tokens, two.hits) == (3, pytest.approx(2 / 3))
    nll = -(2 * math.log(0.8) + math.log(0.1)) / 4
    assert two.nll == pytest.approx(nll, rel=1e-3)
    assert (digits.domain, digits.teacher, digits.hits) == ("digits", "one", 1.0)
    letters, none = found.relations
    # Both start a token at bytes 0, 1 and 3: hit with hit, hit with a sure miss, an
    # unsure miss with a hit.
    assert letters == Relation(
        "letters", "one", "two", 3, pytest.approx(1 / 3), pytest.approx(1 / 3)
    )
    assert (none.domain, none.positions) == ("digits", 0)
    assert math.isnan(none.agreement)


def test_likelihoods_are_of_the_bytes_that_rows_cover():
    """Also where a capture has cut some of the completions."""
    cut = rows([HIT, SURE], [1, 2])  # of four bytes
    whole = rows([UNSURE, HIT], [1, 2])
    store = {FIRST.key: cut, SECOND.key: whole}
    examples = [Example(e.prompt, e.completion) for e in (FIRST, SECOND)]
    (found,) = report({"one": store}, examples).knowledge
    nll = -(2 * math.log(0.8) + math.log(0.1) + math.log(0.3)) / 4
    assert found.nll == pytest.approx(nll, rel=1e-3)


def test_rows_that_cover_no_byte_have_a_likelihood():
    end = rows([HIT], [0])
    (found,) = report({"one": {FIRST.key: end}}, [FIRST]).knowledge
    assert found.nll == pytest.approx(-math.log(0.8), rel=1e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_likelihoods_of_cut_captures_are_those_of_training(tmp_path, request, name):
    from fusion.teachers.capture import capture
    from fusion.teachers.store import TeacherStore
    from fusion.text.conversations import encode
    from fusion.text.rows import ExamplesWarning
    from fusion.training.batches import nats_per_byte
    from tests.fusion import tiny

    model, tokenizer = request.getfixturevalue(name)
    (example,) = tiny.sums(1)
    code = encode(example, tokenizer)
    prompt = int((~code.completion_mask).sum())
    for length in range(prompt + 1, len(code.input_ids) + 1):
        path = tmp_path / str(length)
        is_cut = length < len(code.input_ids)
        with pytest.warns(ExamplesWarning) if is_cut else nullcontext():
            capture(
                model,
                tokenizer,
                [example],
                path,
                k=3,
                max_length=length,
                progress=False,
            )
        store = TeacherStore(path)
        (found,) = report({name: store}, [example]).knowledge
        assert found.nll == pytest.approx(nats_per_byte(store[example.key]))


def test_relations_are_symmetric():
    (found,) = report(STORES, [FIRST]).relations
    turned_stores = dict(reversed(STORES.items()))
    (turned,) = report(turned_stores, [FIRST]).relations
    assert (found.agreement, found.conflict) == (turned.agreement, turned.conflict)
    assert found.first == turned.second


def test_a_teacher_agrees_with_itself():
    (relation,) = report({"a": STORES["one"], "b": STORES["one"]}, [FIRST]).relations
    assert (relation.agreement, relation.conflict) == (1.0, 0.0)


def test_text_has_both_tables():
    text = str(report(STORES, [FIRST, SECOND]))
    assert "| letters | one | 1 | 4 |" in text
    assert "| letters | one, two | 3 | 33.3% | 33.3% |" in text
    assert "conflict" not in str(report({"one": STORES["one"]}, [FIRST]))
    # Where nothing can be compared there is no share.
    assert "| digits | one, two | 0 | – | – |" in text
    assert "nan" not in text


def test_unknown_examples_are_refused():
    with pytest.raises(ValueError, match="but one, two holds none"):
        report(STORES, [Example("c", "d")])


def test_hits_are_told_apart_by_likelihood_whatever_the_shift():
    """A target 0.02 nats below the likeliest token is no hit, at any shift."""
    near = rows([HIT, HIT], [1, 2])
    near = replace(near, nll=near.nll + np.float16(0.02))
    (found,) = report({"near": {FIRST.key: near}}, [FIRST]).knowledge
    assert found.hits == 0.0


def test_stores_of_log_probabilities_are_read():
    known = STORES["one"][FIRST.key]
    server = replace(
        known,
        values=(known.values - known.logsumexp[:, None]).astype(np.float16),
        logsumexp=np.zeros(4, dtype=np.float32),
        shift=np.zeros(4, dtype=np.float32),
    )
    stores = {"server": {FIRST.key: server}, "one": STORES["one"]}
    found = report(stores, [FIRST])
    first, second = found.knowledge
    assert replace(first, teacher="one") == second
    assert (found.relations[0].agreement, found.relations[0].conflict) == (1.0, 0.0)


def test_tokens_that_begin_before_the_completion_are_compared_where_they_start():
    """The first of one teacher begins two bytes before that of the other."""
    early = replace(rows([SURE, HIT, HIT], [1, 2, 4]), start=-2)
    late = rows([HIT, HIT, SURE], [1, 2, 4])
    for first, second in ((early, late), (late, early)):
        stores = {"first": {FIRST.key: first}, "second": {FIRST.key: second}}
        (relation,) = report(stores, [FIRST]).relations
        assert (relation.positions, relation.agreement) == (2, 0.5)


# One, two teachers, and two that have no example in common.
@pytest.mark.parametrize(
    ("names", "examples"),
    [
        (["one"], [FIRST, SECOND]),
        (["one", "two"], [FIRST, SECOND]),
        (["one", "two"], [SECOND]),
    ],
)
def test_heatmap_is_drawn(tmp_path, names, examples):
    found = report({name: STORES[name] for name in names}, examples)
    heatmap(found, tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 5000


def test_rows_of_a_real_model_hit_where_its_argmax_does(llama):
    import torch

    from fusion.teachers.capture import teacher_rows
    from fusion.text.conversations import encode
    from tests.fusion import tiny

    model, tokenizer = llama
    examples = tiny.sums(12, seed=1)
    store = {}
    for example in examples:
        code = encode(example, tokenizer)
        (store[example.key],) = teacher_rows(model, [code], 3)
    found = report({"llama": store}, examples)
    for part in found.knowledge:
        hits = []
        nll = 0.0  # in nats
        size = 0  # in bytes
        for example in examples:
            if example.domain != part.domain:
                continue
            code = encode(example, tokenizer)
            ids = torch.from_numpy(code.input_ids)
            logits = model(ids[None]).logits[0, code.positions].detach()
            targets = ids[torch.from_numpy(code.completion_mask)]
            hits += (logits.argmax(-1) == targets).tolist()
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            nll += float(loss)
            size += len(example.completion.encode())
        assert part.hits == pytest.approx(sum(hits) / len(hits))
        assert part.nll == pytest.approx(nll / size, rel=1e-3)
        assert isinstance(part, Knowledge)

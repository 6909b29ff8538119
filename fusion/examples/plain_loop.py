"""A fusion without a Trainer: student and teacher side by side in a loop of plain PyTorch, on a CPU or a GPU.

    python fusion/examples/plain_loop.py STUDENT TEACHER DATA.jsonl OUT [--steps 100]
    [--learning-rate 1e-4]

The two may have any tokenizers; nothing is stored. One example a step keeps it short.
"""

import argparse
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import fusion


def completion_logits(model: Any, code: Any) -> tuple[Tensor, Tensor]:
    """Logits (1, n, V) that predict the completion, and its tokens (1, n)."""
    ids = torch.from_numpy(code.input_ids).to(model.device)
    logits = model(ids[None]).logits[:, code.positions[0] : code.positions[-1] + 1]
    return logits, ids[None, code.positions[0] + 1 :]


def aligned(student: Any, teacher: Any, device: str) -> tuple[Tensor, Tensor]:
    """Pairs of positions that predict the same next byte: the student's (1, P) and the teacher's (1, P)."""
    ours, theirs = (
        torch.from_numpy(index)[None].to(device)
        for index in fusion.align(student.ends, teacher.ends)
    )
    return ours, theirs


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name in ("student", "teacher", "data", "out"):
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    models: list[Any] = [
        AutoModelForCausalLM.from_pretrained(p)
        for p in (arguments.student, arguments.teacher)
    ]
    student, teacher = (model.to(device) for model in models)
    tokenizer, other = (
        AutoTokenizer.from_pretrained(p) for p in (arguments.student, arguments.teacher)
    )
    optimizer = torch.optim.AdamW(
        (p for p in student.parameters() if p.requires_grad), lr=arguments.learning_rate
    )
    loss = fusion.FusionLoss(
        weight=0.3, graph="row_means", graph_weight=0.05, standardize="center"
    )

    student.train()
    for step, example in enumerate(
        islice(cycle(fusion.read_examples(arguments.data)), arguments.steps), start=1
    ):
        ours, theirs = fusion.encode(example, tokenizer), fusion.encode(example, other)
        with torch.no_grad():
            topk = fusion.top_k(completion_logits(teacher.eval(), theirs)[0], k=10)
        logits, labels = completion_logits(student, ours)
        out = fusion.read(logits, labels, k=10, statistics=True)
        result = loss(
            out.topk,
            out.nll,
            {"teacher": fusion.TeacherTerm(topk, *aligned(ours, theirs, device))},
        )
        result.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            print(
                step,
                *(f"{name} {term.item():.3f}" for name, term in result.terms.items()),
                flush=True,
            )
    student.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()

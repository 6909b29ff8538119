"""A fusion without a Trainer: student and teacher side by side, in plain PyTorch.

    python fusion/examples/plain_loop.py STUDENT TEACHER DATA.jsonl OUT [--steps 100]
    [--learning-rate 1e-4]

The two may have any tokenizers; nothing is stored. One example a step keeps it short.
Runs on a CPU or a GPU.
"""

import argparse
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import fusion


def completion_logits(
    model: Any,
    code: Any,  # an encoded example
) -> tuple[Tensor, Tensor]:
    """Logits (1, n, V) that predict the completion, and its tokens (1, n)."""
    first = code.positions[0]
    last = code.positions[-1]
    ids = torch.from_numpy(code.input_ids)
    ids = ids.to(model.device)[None]  # (1, T)
    logits = model(ids).logits[:, first : last + 1]
    return logits, ids[:, first + 1 :]


def aligned(
    topk: fusion.TopKLogits,  # of the teacher
    ours: Any,
    theirs: Any,
) -> fusion.TeacherTerm:
    """Pair the positions of student and teacher that predict the same next byte."""
    device = topk.values.device
    student_rows, teacher_rows = fusion.align(
        ours.ends,
        theirs.ends,
        student_start=ours.start,
        teacher_start=theirs.start,
    )
    student_index = torch.from_numpy(student_rows)
    teacher_index = torch.from_numpy(teacher_rows)
    return fusion.TeacherTerm(
        topk,
        student_index[None].to(device),  # (1, P)
        teacher_index[None].to(device),
    )


def train(
    student: Any,
    teacher: Any,
    tokenizer: Any,  # of the student
    other: Any,  # of the teacher
    arguments: Any,
) -> None:
    """Take the steps, and print the terms of the loss at every tenth."""
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate)
    # To show every term: by default there is no graph, and the weight is 0.02.
    loss = fusion.FusionLoss(
        weight=0.3,
        graph="row_means",
        graph_weight=0.05,
        standardize="center",
    )
    student.train()
    teacher.eval()
    examples = fusion.read_examples(arguments.data)
    chosen = islice(cycle(examples), arguments.steps)
    for step, example in enumerate(chosen, start=1):
        # 1. The text in the tokens of both models.
        ours = fusion.encode(example, tokenizer)
        theirs = fusion.encode(example, other)
        # 2. What both predict of the completion.
        with torch.no_grad():
            full, _ = completion_logits(teacher, theirs)
            # Heads are often padded with columns of no token.
            columns = min(len(other), full.shape[2])
            topk = fusion.top_k(full, k=10, vocabulary=columns)
        logits, labels = completion_logits(student, ours)
        columns = min(len(tokenizer), logits.shape[2])
        out = fusion.read(logits, labels, k=10, statistics=True, vocabulary=columns)
        # 3. The loss, and a step down its gradient.
        term = aligned(topk, ours, theirs)
        result = loss(out.topk, out.nll, {"teacher": term})
        result.total.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            report(step, result.terms)


def report(step: int, terms: dict[str, Tensor]) -> None:
    """Print the means of the terms of a loss on one line."""
    words = [str(step)]
    for name, mean in terms.items():
        words.append(f"{name} {mean.item():.3f}")
    print(" ".join(words), flush=True)


def main() -> None:
    """Read the command line, load both models, train and save the student."""
    summary = str(__doc__).splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("student")
    parser.add_argument("teacher")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    arguments = parser.parse_args()

    student, tokenizer = loaded(arguments.student)
    teacher, other = loaded(arguments.teacher)
    train(student, teacher, tokenizer, other, arguments)
    student.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


def loaded(path: str) -> tuple[Any, Any]:
    """Load a model onto the device, and its tokenizer."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    return model.to(device), tokenizer


if __name__ == "__main__":
    main()

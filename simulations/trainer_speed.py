"""Tokens a second and memory of `fusion.FusionTrainer` against TRL's GOLD trainer.

Both train the same small models on the same examples.

Both distil a GPT-2 into a Llama of another tokenizer with half the loss on the labels
and half on ULD; ours with the graph loss, too. GOLD (`trl.experimental.gold`,
off-policy) runs the teacher in every step and keeps it in memory; ours reads a store,
whose capture is the last row, with whole rows of logits or with the chunked head, which
applies the head twice. Each run is a process of its own, and the kinds take turns.
Tokens are the student's; seconds of CPU are the ones to compare where the machine is
shared.

    python -m simulations.trainer_speed --out DIR [--quick] [--seed S] [--repeats R]

writes trials.csv (one row a run), summary.csv, meta.json and trainer_speed.md.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from fusion.text.conversations import Example, encode
from simulations import _report as report
from simulations import tiny_models
from simulations._report import Row

REPEATS = 3
BATCH = 8
HEAD_CHUNK = 64  # positions whose logits are in memory at once
NAMES = {
    "fusion": "FusionTrainer",
    "chunked": "FusionTrainer, chunked head",
    "gold": "TRL GOLD (ULD)",
    "capture": "capture, once",
}


def common(folder: str, steps: int, seed: int) -> dict[str, Any]:
    """Return the arguments that both trainers share."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 1e-3,
        "seed": seed,
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": steps,
        "report_to": "none",
    }


def fusion_run(
    examples: Sequence[Example],
    folder: str,
    steps: int,
    seed: int,
    head_chunk: int | None = None,
) -> Callable[[], Any]:
    """Return a fusion from a store, ready to go."""
    import fusion
    from fusion.teachers.capture import capture

    teacher, student = tiny_models.gpt2(), tiny_models.llama()
    store = Path(folder) / "store"
    capture(*teacher, examples, store, progress=False)
    del teacher
    config = fusion.FusionConfig(
        **common(folder, steps, seed),
        stores={"teacher": str(store)},
        fusion_weight=0.5,
        graph="row_means",
        graph_weight=0.05,
        head_chunk=head_chunk,
    )
    return fusion.FusionTrainer(
        student.model, config, examples, processing_class=student.tokenizer
    ).train


def gold_run(
    examples: Sequence[Example], folder: str, steps: int, seed: int
) -> Callable[[], Any]:
    """Return the same distillation by TRL, ready to go."""
    from datasets import Dataset
    from trl.experimental.gold import GOLDConfig, GOLDTrainer

    teacher, student = tiny_models.gpt2(), tiny_models.llama()
    teacher.tokenizer.save_pretrained(Path(folder) / "teacher")
    rows = [
        [
            *(turn.as_dict() for turn in e.prompt),
            {"role": "assistant", "content": e.completion},
        ]
        for e in examples
    ]
    config = GOLDConfig(
        **common(folder, steps, seed),
        max_length=256,
        use_uld_loss=True,
        lmbda=0.0,
        uld_crossentropy_weight=0.5,
        uld_distillation_weight=0.5,
        teacher_tokenizer_name_or_path=str(Path(folder) / "teacher"),
        activation_checkpointing=False,
        bf16=False,
    )
    return GOLDTrainer(
        student.model,
        teacher.model,
        config,
        train_dataset=Dataset.from_list([{"messages": row} for row in rows]),
        processing_class=student.tokenizer,
    ).train


def capture_run(
    examples: Sequence[Example], folder: str, steps: int, seed: int
) -> Callable[[], Any]:
    """Return the capture of as many examples as the trainers see."""
    from fusion.teachers.capture import capture

    teacher = tiny_models.gpt2()
    chosen = examples[: steps * BATCH]
    return lambda: capture(
        *teacher, chosen, Path(folder) / "store", batch_size=BATCH, progress=False
    )


RUNS: dict[str, Callable[..., Callable[[], Any]]] = {
    "fusion": fusion_run,
    "chunked": partial(fusion_run, head_chunk=HEAD_CHUNK),
    "gold": gold_run,
    "capture": capture_run,
}


def measure(kind: str, steps: int, seed: int) -> Row:
    """Run one kind in this process."""
    examples = tiny_models.sums(steps * BATCH, seed)
    tokenizer = tiny_models.llama().tokenizer
    tokens = sum(len(encode(example, tokenizer).input_ids) for example in examples)
    with tempfile.TemporaryDirectory() as folder:
        run = RUNS[kind](examples, folder, steps, seed)
        before, start, worked = _peak(), time.perf_counter(), time.process_time()
        run()
        spent = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - worked,
        }
    return {
        "kind": kind,
        "tokens": tokens,
        **spent,
        "peak_MiB": _peak(),
        "set_up_MiB": before,
    }


def _peak() -> float:
    """Most resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def in_a_process(kind: str, steps: int, seed: int) -> Row:
    """Measure in a new process, so that the peak of memory is the run's own."""
    told = [
        sys.executable,
        "-m",
        "simulations.trainer_speed",
        "--out",
        os.devnull,
        "--run",
        kind,
    ]
    command = [*told, "--steps", str(steps), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed: {done.stderr.strip().splitlines()[-1]}")
    found: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return the medians of each kind."""
    found = []
    for kind in RUNS:
        mine = [row for row in rows if row["kind"] == kind]
        rate, work = (
            median(row["tokens"] / row[f"{clock}seconds"] for row in mine)
            for clock in ("", "cpu_")
        )
        peak = median(row["peak_MiB"] for row in mine)
        found.append(
            {
                "kind": kind,
                "tokens_a_second": rate,
                "tokens_a_cpu_second": work,
                "peak_MiB": peak,
                "runs": len(mine),
            }
        )
    return found


def table(summary: Sequence[Row]) -> str:
    """Lay the medians out."""
    figures = ("tokens_a_second", "tokens_a_cpu_second", "peak_MiB")
    rows = [
        [NAMES[row["kind"]], *(f"{row[name]:.0f}" for name in figures), row["runs"]]
        for row in summary
    ]
    return report.markdown_table(
        ["trainer", "tokens a second", "a second of CPU", "peak memory, MiB", "runs"],
        rows,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        help="runs of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, help="optimiser steps a run (default: 40, quick: 3)"
    )
    parser.add_argument(
        "--run",
        choices=tuple(RUNS),
        help="run one kind in this process and print what it took",
    )
    arguments = parser.parse_args(argv)
    steps = arguments.steps or (3 if arguments.quick else 40)
    if arguments.run:
        print(json.dumps(measure(arguments.run, steps, arguments.seed)))
        return 0
    folder = report.results_folder(arguments)
    for name in ("trials.csv", "meta.json"):  # times are compared within one run only
        (folder / name).unlink(missing_ok=True)
    versions = report.versions() | {
        name: version(name) for name in ("torch", "transformers", "trl")
    }
    report.claim(
        folder,
        {
            "seed": arguments.seed,
            "steps": steps,
            "batch": BATCH,
            "head_chunk": HEAD_CHUNK,
            "versions": versions,
        },
    )
    rows = []
    for _ in tqdm(range(1 if arguments.quick else arguments.repeats), unit="turn"):
        for kind in RUNS:
            rows.append(in_a_process(kind, steps, arguments.seed))
            report.append_row(folder / "trials.csv", rows[-1])
    summary = summarise(rows)
    report.write_rows(folder / "summary.csv", summary)
    text = (
        "# Fusion from a store against distillation with a live teacher\n\n"
        f"{table(summary)}\n\nMedians; CPU.\n"
    )
    (folder / "trainer_speed.md").write_text(text, encoding="utf-8")
    print(text, f"Written to {folder}.", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Training on a CUDA device: tokens a second and memory of the losses, one by one.

A student of SmolLM2-135M's shape, with random weights, takes 20 steps in bfloat16 with
its head in chunks and, to compare, whole: on the labels alone, with ULD, and with ULD
and GLD. The teacher's logits come from a store. The tokenizer has a token for each of
49,152 words, so that no column of the head is left out.

    python -m simulations.gpu_training --out DIR [--quick] [--seed S] [--device NAME]

writes training.csv, meta.json and training.md. Without CUDA it says so and stops,
unless a device is named. That float32 on the device is float32 on the CPU is a test
(`make gpu`, tests/fusion/training/test_trainer_settings.py).
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import fusion
from fusion.teachers.capture import capture
from simulations import _report as report
from simulations._report import Row
from simulations.loss_speed import DECODER

# Factors of what the teachers add, and their graph loss, by the name of the losses.
LOSSES: dict[str, dict[str, Any]] = {
    "SFT": {"fusion_weight": 0.0, "graph": None},
    "ULD": {"fusion_weight": 0.5, "graph": None},
    "ULD + GLD": {"fusion_weight": 0.5, "graph": "row_means", "graph_weight": 0.05},
}
CHUNKS = (128, None)
STEPS, BATCH, LENGTH = 20, 8, 1024
QUICK = {
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def words(count: int) -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each of so many words, and one that ends texts."""
    vocabulary = {"</s>": 0}
    for number in range(1, count):
        vocabulary[f"w{number}"] = number
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>"
    )


def texts(count: int, length: int, vocabulary: int, seed: int) -> list[fusion.Example]:
    """Random words, of which a sixteenth is the prompt."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        drawn = [f"w{rng.randrange(1, vocabulary)}" for _ in range(length - 1)]
        cut = length // 16
        prompt = " ".join(drawn[:cut])
        completion = " " + " ".join(drawn[cut:])
        found.append(fusion.Example(prompt, completion))
    return found


def teacher_and_student(
    length: int, shape: dict[str, Any]
) -> tuple[GPT2LMHeadModel, LlamaForCausalLM]:
    """A small teacher and a student, both with random weights."""
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = GPT2Config(
        vocab_size=shape["vocab_size"],
        n_embd=64,
        n_layer=1,
        n_head=2,
        n_positions=length,
        **ends,
    )
    student_config = LlamaConfig(max_position_embeddings=length, **ends, **shape)
    return GPT2LMHeadModel(config), LlamaForCausalLM(student_config)


def seconds_and_peak(trainer: fusion.FusionTrainer) -> tuple[float, float]:
    """Train; return the seconds, and on CUDA the most memory allocated, in MiB."""
    on_cuda = trainer.args.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    trainer.train()
    if on_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() / 2**20 if on_cuda else 0.0


def measure(
    losses: str,
    chunk: int | None,
    device: str,
    seed: int,
    steps: int,
    batch: int,
    length: int,
    shape: dict[str, Any],
) -> Row:
    """Train once on new words, and note what it took."""
    vocabulary = shape["vocab_size"]
    tokenizer = words(vocabulary)
    examples = texts(steps * batch, length, vocabulary, seed)
    torch.manual_seed(seed)
    teacher, student = teacher_and_student(length, shape)
    teacher.to(device)
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        capture(teacher, tokenizer, examples, store, progress=False)
        del teacher
        args = fusion.FusionConfig(
            output_dir=folder,
            stores={"teacher": store},
            max_length=length,
            standardize="center",
            head_chunk=chunk,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=1e-4,
            bf16=True,
            use_cpu=device == "cpu",
            save_strategy="no",
            logging_steps=steps,
            report_to="none",
            disable_tqdm=True,
            seed=seed,
            **LOSSES[losses],
        )
        trainer = fusion.FusionTrainer(
            student, args, examples, processing_class=tokenizer
        )
        seconds, peak = seconds_and_peak(trainer)
    logged: dict[str, Any] = next(
        row for row in trainer.state.log_history if "loss" in row
    )
    return {
        "losses": losses,
        "head_chunk": chunk or 0,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "tokens": steps * batch * length,
        "seconds": seconds,
        "tokens_a_second": steps * batch * length / seconds,
        "peak_MiB": peak,
        "loss": logged["loss"],
    }


def table(rows: Sequence[Row]) -> str:
    """Lay the figures out."""
    lines = []
    for row in rows:
        lines.append(
            [
                row["losses"],
                row["head_chunk"] or "whole",
                f"{row['tokens_a_second']:.0f}",
                f"{row['peak_MiB']:.0f}",
            ]
        )
    header = ["losses", "positions of the head at once", "tokens a second", "peak, MiB"]
    return report.markdown_table(header, lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--device", help="cuda by default")
    arguments = parser.parse_args(argv)
    device = arguments.device or "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("Skipped: PyTorch finds no CUDA device.")
        return 0
    folder = report.results_folder(arguments)
    steps, batch, length, shape = STEPS, BATCH, LENGTH, DECODER
    if arguments.quick:
        steps, batch, length, shape = 2, 2, 32, QUICK
    for name in ("training.csv", "meta.json"):
        (folder / name).unlink(missing_ok=True)
    facts = {"seed": arguments.seed, "steps": steps, "batch": batch, "length": length}
    report.claim(folder, facts | {"versions": report.versions()})
    rows = []
    runs = [(losses, chunk) for losses in LOSSES for chunk in CHUNKS]
    for losses, chunk in tqdm(runs, unit="run"):
        row = measure(
            losses, chunk, device, arguments.seed, steps, batch, length, shape
        )
        rows.append(row)
        report.append_row(folder / "training.csv", row)
    text = (
        f"# Training in bfloat16: {steps} steps of {batch} texts of {length} tokens\n\n"
        f"{table(rows)}\n"
    )
    (folder / "training.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

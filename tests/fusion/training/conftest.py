"""Two teachers' stores, and a trainer of a tiny student on them."""

import copy

import numpy as np
import pytest

from fusion.teachers.capture import capture
from fusion.training.config import FusionConfig
from fusion.training.trainer import FusionTrainer
from tests.fusion import tiny
from tests.fusion.taught import EXAMPLES, HELD_OUT, K


@pytest.fixture(scope="session")
def stores(tmp_path_factory, gpt2, llama):
    """Two teachers of different k and tokenizers, in an order that is no one's.

    One knows every third example only.
    """
    folder = tmp_path_factory.mktemp("stores")
    everything = [*EXAMPLES, *HELD_OUT]
    order = np.random.default_rng(0).permutation(len(everything))
    capture(
        *gpt2,
        [everything[i] for i in order],
        folder / "gpt2",
        k=8,
        shard_size=7,
        progress=False,
    )
    capture(
        *tiny.llama(seed=5), everything[::-3], folder / "other", k=10, progress=False
    )
    return {name: str(folder / name) for name in ("gpt2", "other")}


@pytest.fixture
def trainer(tmp_path, llama, stores):
    """Make a trainer of a copy of the tiny Llama."""

    def make(
        examples=EXAMPLES,
        held_out=None,
        teachers=("gpt2", "other"),
        own_graph=None,
        student_k=None,
        **settings,
    ):
        model, tokenizer = llama
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "no",
            "k": K,
            "stores": {name: stores[name] for name in teachers},
            "max_steps": 3,
            "logging_steps": 1,
            "least_coverage": 0.3,
            "graph": "row_means",
            "fusion_weight": 0.5,
        }
        return FusionTrainer(
            copy.deepcopy(model),
            FusionConfig(**defaults | settings),
            examples,
            held_out,
            processing_class=tokenizer,
            graph=own_graph,
            student_k=student_k,
        )

    return make

"""What the tests of the trainer learn, and how many logits they compare."""

import torch

from tests.fusion import tiny

K = 6
EXAMPLES = tiny.sums(24)
HELD_OUT = tiny.sums(72)[-24:]
# Settings of which most differ from what they are by default.
SETTINGS = {
    "standardize": "center",
    "uld_weight": 0.7,
    "graph_weight": 0.2,
    "fusion_weight": 0.4,
    "teacher_temperatures": {"other": 2.0},
}


def weights_of(trainer):
    """All weights of the student in a row."""
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

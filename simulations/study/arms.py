"""The arms of the study: what a student learns from, and by which loss.

The loss of every arm is SFT + a · A + g · G, with A a token-level loss and G a graph
loss between student and teacher, each of which may be missing. The factors are set by
one number, the share ρ: with m losses beside SFT, each gets the factor at which the
norm of its gradient, with respect to the student's logits, is ρ / m times that of SFT
over the first steps (`simulations.study.cells.calibrated`). So all arms are tuned
alike, by three values of ρ, whatever the units of their losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The method of the page: k largest raw logits, ULD between the sorted ones of a
# position, and GLD between row means of graphs.
RAW = {"standardize": "none"}


@dataclass(frozen=True)
class Arm:
    """One way to train the student.

    Attributes
    ----------
    words : str
        What it is, for tables.
    token, graph : str or None
        The token-level loss of `fusion.FusionConfig.alignment`, and the graph loss: one
        of `fusion.graph_loss`, or one of `simulations.study.graphs`.
    settings : mapping
        Other settings of `fusion.FusionConfig`.
    labels, answers : bool
        Whether it learns the few labelled questions, and the teacher's own answers to
        the many unlabelled ones.
    tuned_as : str or None
        The arm whose share ρ it takes, for controls; None where it has its own.
    factors : {"shares", "one"}
        "one": a = g, the formula of the page without a weight between both losses.
    shuffled : bool
        Whether the teacher's logits are those of another question.
    longer : int
        Trained for so many times the steps of the others.
    own : float
        Share of the steps that learn the student's own answers to the unlabelled
        questions, scored by the teacher; in the others it learns by SFT alone.
    same_tokens : bool
        Whether it compares tokens, which only a teacher with the student's tokenizer
        has.
    """

    words: str
    token: str | None = None
    graph: str | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: RAW)
    labels: bool = True
    answers: bool = False
    tuned_as: str | None = None
    factors: str = "shares"
    shuffled: bool = False
    longer: int = 1
    own: float = 0.0
    same_tokens: bool = False

    @property
    def fused(self) -> bool:
        """Whether the teacher's logits have a part in its loss."""
        return self.token is not None or self.graph is not None

    @property
    def taught(self) -> bool:
        """Whether a teacher has a part in it, by its logits or by its answers."""
        return self.fused or self.answers


ARMS: dict[str, Arm] = {
    "before": Arm("student before", labels=False),
    # What a user would do without fusion.
    "labels": Arm("labels alone"),
    "answers": Arm(
        "the teacher's answers alone", labels=False, answers=True, tuned_as="sequence"
    ),
    "sequence": Arm("labels and the teacher's answers", answers=True),
    # The published losses, on the labels.
    "uld": Arm("ULD", "uld"),
    "gld": Arm("GLD", None, "row_means"),
    "uld_gld": Arm("ULD + GLD", "uld", "row_means"),
    "uld_gld_one": Arm(
        "ULD + GLD, unweighted",
        "uld",
        "row_means",
        tuned_as="uld_gld",
        factors="one",
    ),
    "uld_softmax": Arm("ULD, softmax", "uld", None, {"standardize": "softmax"}),
    "uld_gld_softmax": Arm(
        "ULD + GLD, softmax", "uld", "row_means", {"standardize": "softmax"}
    ),
    "uld_gld_zscore": Arm(
        "ULD + GLD, z-scores", "uld", "row_means", {"standardize": "zscore"}
    ),
    "uld_gld_center": Arm(
        "ULD + GLD, centred", "uld", "row_means", {"standardize": "center"}
    ),
    # The same with the teacher's answers to unlabelled questions.
    "answers_uld": Arm(
        "ULD on the teacher's answers alone", "uld", labels=False, answers=True
    ),
    "sequence_uld": Arm("labels, answers and ULD", "uld", answers=True),
    # As `fusion train` compares where teachers gave log-probabilities only.
    "sequence_uld_logprob": Arm(
        "labels, answers and ULD of log-probabilities",
        "uld",
        None,
        {"standardize": "logprob"},
        answers=True,
    ),
    "sequence_gld": Arm("labels, answers and GLD", None, "row_means", answers=True),
    "sequence_next_bytes": Arm(
        "labels, answers and KL of next bytes",
        None,
        "next_bytes",
        answers=True,
        tuned_as="next_bytes",
    ),
    # On-policy distillation: the student's own answers, scored by the teacher.
    "own_uld": Arm("labels, and ULD on own answers", "uld", own=0.25),
    "sequence_own_uld": Arm(
        "labels, answers, and ULD on own answers", "uld", answers=True, own=0.25
    ),
    "own_kl": Arm("labels, and KL on own answers", "kl", own=0.25, same_tokens=True),
    "sequence_own_kl": Arm(
        "labels, answers, and KL on own answers",
        "kl",
        answers=True,
        own=0.25,
        same_tokens=True,
    ),
    # Losses that know the tokens.
    "kl": Arm("KL", "kl", same_tokens=True),
    "jsd": Arm("JSD", "jsd", same_tokens=True),
    "hybrid": Arm("equal tokens, the rest sorted", None, "hybrid"),
    "next_bytes": Arm("KL of next bytes", None, "next_bytes"),
    # Other graphs of the library, and changed ones.
    "spectral": Arm("spectral graph", None, "spectral"),
    "gw": Arm("graph, by couplings", None, "gw"),
    "windows": Arm("graphs of 4 positions", None, "windows_4"),
    "positions": Arm("graphs of 1 position", None, "windows_1"),
    "without_shift": Arm("graph without shifts", None, "without_shift"),
    "byte_graph": Arm("graph of next bytes", None, "byte_graph"),
    "position_graph": Arm("graph of positions", None, "position_graph"),
    "questions": Arm("graph of questions", None, "questions"),
    "fused": Arm("graph with tokens as features", None, "fused"),
    "sequence_byte_graph": Arm(
        "labels, answers and graph of next bytes",
        None,
        "byte_graph",
        answers=True,
        tuned_as="byte_graph",
    ),
    "sequence_questions": Arm(
        "labels, answers and graph of questions",
        None,
        "questions",
        answers=True,
        tuned_as="questions",
    ),
    # Controls, at the weights of what they control.
    "shuffled": Arm(
        "ULD + GLD of other questions",
        "uld",
        "row_means",
        tuned_as="uld_gld",
        shuffled=True,
    ),
    "constant": Arm("GLD to a constant graph", None, "constant", tuned_as="gld"),
    "temperature": Arm(
        "ULD + GLD, centred, temperature 2",
        "uld",
        "row_means",
        {"standardize": "center", "temperature": 2.0},
        tuned_as="uld_gld_center",
    ),
    "labels_longer": Arm("labels alone, longer", tuned_as="labels", longer=3),
    "uld_gld_longer": Arm(
        "ULD + GLD, longer", "uld", "row_means", tuned_as="uld_gld", longer=3
    ),
}

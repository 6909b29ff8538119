"""Certificates: proved intervals for GW_2², whatever solver a coupling came from."""

from gwtools.certify.certificates import certified_objective, certify
from gwtools.certify.efforts import EFFORTS
from gwtools.certify.entropic_intervals import value_with_entropy
from gwtools.certify.intervals import (
    CertifiedObjective,
    ProvedInterval,
    certified_interval,
    closed_up_to,
    with_branches,
    with_proved,
    with_upper,
)
from gwtools.certify.landmarks import DistanceInterval, landmark_interval
from gwtools.certify.objectives import PlanObjective, coupling_distance, enclosed

__all__ = [
    "EFFORTS",
    "CertifiedObjective",
    "DistanceInterval",
    "PlanObjective",
    "ProvedInterval",
    "certified_interval",
    "certified_objective",
    "certify",
    "closed_up_to",
    "coupling_distance",
    "enclosed",
    "landmark_interval",
    "value_with_entropy",
    "with_branches",
    "with_proved",
    "with_upper",
]

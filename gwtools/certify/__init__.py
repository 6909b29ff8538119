"""Certificates: proved intervals for GW_2², whatever solver a coupling came from."""

from gwtools.certify.certificates import certified_objective, certify
from gwtools.certify.check_branches import BranchProof, check_branches
from gwtools.certify.efforts import EFFORTS
from gwtools.certify.intervals import (
    CertifiedObjective,
    ProvedLower,
    certified_interval,
    closed_up_to,
    with_lower,
    with_upper,
)
from gwtools.certify.landmarks import DistanceInterval, landmark_interval
from gwtools.certify.objectives import PlanObjective, coupling_distance, enclosed

__all__ = [
    "EFFORTS",
    "BranchProof",
    "CertifiedObjective",
    "DistanceInterval",
    "PlanObjective",
    "ProvedLower",
    "certified_interval",
    "certified_objective",
    "certify",
    "check_branches",
    "closed_up_to",
    "coupling_distance",
    "enclosed",
    "landmark_interval",
    "with_lower",
    "with_upper",
]

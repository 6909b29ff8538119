"""Rejects budgets that nothing spends, and proofs that were not kept."""

from __future__ import annotations

from typing import Any

from gwtools import _check


def budget(value: Any, effort: str) -> None:
    """Require no budget, or seconds for the one effort that can spend them."""
    if value is None:
        return
    _check.number(value, "budget", above=0.0)
    if effort != "quartic":
        raise ValueError(
            f"budget must be left out with effort={effort!r}, but is {value!r}: "
            'pass effort="quartic", which spends it.'
        )


def kept(proof: Any) -> None:
    """Require the proof of a certificate."""
    if proof is None:
        raise ValueError(
            "a certificate must keep its proof to be verified, but this one does not: "
            "call gwtools.certify(…, keep_proof=True)."
        )


def same_sizes(
    found: tuple[int, int],
    sizes: tuple[int, int],
    what: str,
) -> None:
    """Require spaces of as many atoms as a proof is of; ``what`` are these atoms."""
    if found != sizes:
        raise ValueError(
            f"x and y must be the spaces of the certificate, but have {sizes[0]} and "
            f"{sizes[1]} {what} where its proof has {found[0]} and {found[1]}: "
            "pass the spaces that it was made for."
        )

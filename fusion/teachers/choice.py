"""Which teachers are worth learning from in each domain, by what a report counts."""

from __future__ import annotations

from fusion import _check
from fusion.teachers.report import Report

# A teacher to whom a domain's texts cost more nats than so many times the best one's
# is left out.
RATIO = 2.0


def chosen(
    found: Report, student: str | None = None, ratio: float = RATIO
) -> dict[str, list[str]]:
    """Choose teachers by domain: by likelihood, against the best one and the student.

    A teacher is left out where its negative log-likelihood a byte is more than
    ``ratio`` times the least of all teachers', or not below the student's: of a domain
    that it does not know better, a student learns nothing from it.

    Parameters
    ----------
    found : Report
        Of stores on texts that are right: labels, not what a teacher wrote.
    student : str, optional
        The store that is the student's own; it is no teacher.
    ratio : float
        At least 1.

    Returns
    -------
    dict of list of str
        The teachers of each domain, the likeliest first; some may have none.

    Raises
    ------
    ValueError
        If the ratio is less than 1.
    """
    _check.number(ratio, "ratio", least=1)
    by_domain: dict[str, dict[str, float]] = {}
    for line in found.knowledge:
        by_domain.setdefault(line.domain, {})[line.teacher] = line.nll
    kept = {}
    for domain, costs in by_domain.items():
        of_student = float("inf")
        if student is not None:
            of_student = costs.pop(student, of_student)
        least = min(costs.values(), default=0.0)
        good = [
            name
            for name, nll in costs.items()
            if nll <= ratio * least and nll < of_student
        ]
        kept[domain] = sorted(good, key=costs.__getitem__)
    return kept

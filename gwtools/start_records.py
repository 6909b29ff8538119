"""Records of a search: which starts were made, and where each of them ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple


class Start(NamedTuple):
    """One start of a search, and the coupling where it ended.

    Attributes
    ----------
    name : str
        What the start was, as "third bound", "eigenvectors +-+", "random vertex 2" or
        "restart from the best".
    objective : float
        The objective that conditional gradient reached from there, in squared units of
        C; of a start that was given up, where it was then.
    iterations : int
        Steps of conditional gradient.
    seconds : float
        Time that the start and the steps took.
    reached : bool
        Whether the objective is that of the best start, up to the tolerance.
    won : bool
        Whether its coupling is the result's: the first of those that reached the best
        objective up to float error.

    independent : bool
        Whether it does not begin at a plan that an earlier start led to, as restarts
        from the best plan do: these mostly return to it.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> hexagon = np.abs(np.arange(6)[:, None] - np.arange(6))
    >>> hexagon = np.minimum(hexagon, 6 - hexagon).astype(float)
    >>> result = gw.solve(hexagon, hexagon[::-1, ::-1].copy(), gw.MultiStart())
    >>> start = result.starts[0]
    >>> start.name, start.objective, start.won
    ('product coupling', 0.0, True)
    """

    name: str
    objective: float  # in squared units of C
    iterations: int
    seconds: float
    reached: bool
    won: bool
    independent: bool = True


@dataclass(frozen=True)
class Starts:
    """The starts of a search, in the order in which they were made.

    A sequence of :class:`gwtools.Start`.

    Attributes
    ----------
    made : tuple of Start
        The starts.
    left_out : str
        What the size of the spaces made the search leave out; empty for nothing.

    Examples
    --------
    Printed, they say how many of them agree: the more, the more can be trusted.

    >>> import numpy as np, gwtools as gw
    >>> rng = np.random.default_rng(0)
    >>> x, y = gw.PointCloud(rng.random((12, 2))), gw.PointCloud(rng.random((15, 3)))
    >>> starts = gw.solve(x, y, gw.MultiStart(starts=5)).starts
    >>> len(starts), str(starts).split(";")[0]
    (5, 'best of 5 starts')
    >>> starts.best.name in [start.name for start in starts]
    True
    """

    made: tuple[Start, ...]
    left_out: str = ""

    def __len__(self) -> int:
        """Return the number of starts."""
        return len(self.made)

    def __iter__(self) -> Iterator[Start]:
        """Iterate over the starts."""
        return iter(self.made)

    def __getitem__(self, index: int) -> Start:
        """Return a start by its place in the order."""
        return self.made[index]

    @property
    def best(self) -> Start:
        """The start whose coupling is the result's."""
        winners = [start for start in self.made if start.won]
        return winners[0]

    @property
    def reached(self) -> int:
        """How many starts ended at the best objective, up to the tolerance.

        Restarts from the best plan do not count, unless the winner is one.
        """
        count = 0
        for start in self.made:
            counts = start.independent or start.won
            count += start.reached and counts
        return count

    def scaled(self, factor: float) -> Starts:
        """Return the starts with objectives in other units.

        Parameters
        ----------
        factor : float
            What C is multiplied by, a power of two.

        Returns
        -------
        Starts
            Objectives multiplied by the factor squared.
        """
        made = []
        for start in self.made:
            # Factor by factor: the square alone may overflow.
            objective = start.objective * factor * factor
            made.append(start._replace(objective=objective))
        return replace(self, made=tuple(made))

    def __str__(self) -> str:
        """Say how many starts were made, and how many ended at the best."""
        number = len(self)
        starts = "start" if number == 1 else "starts"
        text = f"best of {number} {starts}; {self.reached} reached it"
        if self.left_out:
            text += f" (left out at this size: {self.left_out})"
        return text

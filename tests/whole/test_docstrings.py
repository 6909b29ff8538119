"""The check of public docstrings: it finds the faults it is for, and no others."""

import dataclasses
import enum

import pytest

from gwtools import _check

docstrings = pytest.importorskip("tests.docstrings", reason="numpydoc is missing")


def described(value: float, unit: float = 1.0) -> float:
    """Return a length in another unit.

    Parameters
    ----------
    value : float
        The length.
    unit : float
        The unit.

    Returns
    -------
    float
        The length, as in Mémoli (2011, doi:10.1007/s10208-011-9093-5).

    Raises
    ------
    ValueError
        If the length is negative.
    """
    _check.number(value, "value", least=0.0)
    return value / unit


def undescribed(value: float, unit: float = 1.0) -> float:
    """Return a length in another unit, as in Mémoli (2011).

    Parameters
    ----------
    value : float
        The length.

    Returns
    -------
    float
        the length
    """
    _check.number(value, "value", least=0.0)
    return value / unit


@dataclasses.dataclass(frozen=True)
class Found:
    """A result.

    Attributes
    ----------
    value : float
        The length.
    """

    value: float


class Unit(enum.Enum):
    """Units of lengths."""

    METRE = "m"


class Base:
    """Something that is measured."""

    def size(self, unit: float) -> float:
        """Return the size."""
        return unit


class Child(Base):
    """Something that is measured in another way."""

    def size(self, unit: float) -> float:
        """Return the size."""
        return 2 * unit


PATH = __name__


def test_a_described_function_has_no_fault():
    assert list(docstrings.faults(f"{PATH}.described", described)) == []


def test_each_fault_is_found():
    faults = list(docstrings.faults(f"{PATH}.undescribed", undescribed))
    assert any(fault.startswith("PR01") and "unit" in fault for fault in faults)
    assert any(fault.startswith("RT04") for fault in faults)
    assert any(fault.startswith("RT05") for fault in faults)
    assert "raises errors, but has no Raises section" in faults
    assert "cites a source without an arXiv number or a DOI" in faults
    assert len(faults) == 5


def test_results_describe_attributes_and_enumerations_nothing():
    assert list(docstrings.faults(f"{PATH}.Found", Found)) == []
    assert list(docstrings.faults(f"{PATH}.Unit", Unit)) == []


def test_an_override_is_described_in_the_base_class():
    assert [path for path, _ in docstrings.members("Base", Base)] == ["Base.size"]
    assert list(docstrings.members("Child", Child)) == []


def test_public_names_are_found():
    paths = {path for path, _ in docstrings.public_names()}
    assert {"gwtools.solve", "gwtools.Space.rows", "fusion.graph_loss"} <= paths
    assert not any("._" in path for path in paths)

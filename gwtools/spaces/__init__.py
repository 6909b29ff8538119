"""Weighted spaces, one file for each kind; what they share is in ``spaces.base``."""

from gwtools.spaces.base import (
    Space,
    converted,
    detached,
    fields_alone,
    numbers_at_atoms,
    numbers_in_blocks,
    row_blocks,
)
from gwtools.spaces.cloud import PointCloud
from gwtools.spaces.dense import (
    DenseSpace,
    as_space,
    undirected_space,
    without_directions,
)
from gwtools.spaces.gram import GramSpace
from gwtools.spaces.graph import GraphSpace

__all__ = [
    "DenseSpace",
    "GramSpace",
    "GraphSpace",
    "PointCloud",
    "Space",
    "as_space",
    "converted",
    "detached",
    "fields_alone",
    "numbers_at_atoms",
    "numbers_in_blocks",
    "row_blocks",
    "undirected_space",
    "without_directions",
]

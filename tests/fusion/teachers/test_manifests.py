"""Manifests: what was written is read, and other versions are refused by name."""

import json
from dataclasses import asdict

import pytest

from fusion.teachers import manifests
from tests.fusion.teachers.test_store import ORIGIN, digest

LINES = [manifests.Shard(1, 2, 9, digest(1)), manifests.Shard(0, 2, 7, digest(0))]


def test_the_same_bytes_whatever_the_order_of_the_shards(tmp_path):
    for rank, lines in enumerate([LINES, LINES[::-1]]):
        manifests.write_manifest(tmp_path, ORIGIN, lines, rank)
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() == second.read_bytes()
    assert manifests.read_manifest(first) == (ORIGIN, sorted(LINES))


@pytest.mark.parametrize("version", [0, 3, "2", None, [1]], ids=str)
def test_formats_of_other_versions_are_refused(tmp_path, version):
    """Also where they have fields, or a checksum, that this version does not know."""
    origin = asdict(ORIGIN) | {"format": version, "sampled": True}
    file = tmp_path / "manifest-0.json"
    content = {"origin": origin, "shards": [], "sha256": "another"}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"must have format 1 or 2, but has .*: read"):
        manifests.read_manifest(file)


def test_origins_differ_in_their_first_other_field():
    other = manifests.Origin(**asdict(ORIGIN) | {"k": 4, "format": 1})
    assert manifests.differing(ORIGIN, other) == "k"
    assert manifests.differing(ORIGIN, ORIGIN) is None

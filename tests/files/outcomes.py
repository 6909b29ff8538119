"""What becomes of each file; ``python -m tests.files.outcomes`` prints a table."""

import tempfile

import scipy.sparse as sp

from tests.files import (
    test_arrays,
    test_contents,
    test_formats,
    test_graphs,
    test_labels,
    test_records,
    test_rows,
    test_tables,
)
from tests.files.cases import read

CASES = (
    test_records.CASES
    | test_rows.CASES
    | test_contents.CASES
    | test_labels.CASES
    | test_tables.CASES
    | test_arrays.CASES
    | test_graphs.CASES
    | test_formats.CASES
)


def outcome(case):
    """Say what becomes of the file of a case."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read(case, folder)
        except ValueError as error:
            sentence = str(error).replace(f"{folder}/", "")
            return f"refused: {sentence}"
    space = found.space
    graph = hasattr(space, "nodes")
    values = sp.coo_array(space.adjacency).data if graph else space.data
    if isinstance(found.names, range):
        return f"read: {values.tolist()}"
    names = ", ".join(map(str, found.names))
    return f"read: {values.tolist()}, names {names}"


if __name__ == "__main__":
    for name, case in CASES.items():
        print(f"| {name} | {outcome(case)} |")

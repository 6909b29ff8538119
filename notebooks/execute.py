"""Execute the notebooks: a quick check of copies, or with --write, in full.

A full run keeps the outputs, and the picture of the cell that is tagged "gallery" as
docs/pictures/NAME.png, which docs/gallery.md shows.
"""

import argparse
import base64
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent


def execute(path: Path, write: bool) -> None:
    """Run one notebook from top to bottom in its own folder.

    A cell that fails raises CellExecutionError.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,  # what a cell prints is one text
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=[
            "--log-level=ERROR"
        ],  # else it warns that its loopback sockets are not encrypted
    )
    client.execute()
    if write:
        for cell in notebook.cells:  # warnings name folders of the machine
            if cell.cell_type == "code":
                cell.outputs = [
                    output for output in cell.outputs if output.get("name") != "stderr"
                ]
        nbformat.write(notebook, path)
        keep_picture(notebook, path)


def pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Return the pictures of the cells that are tagged "gallery", as PNG."""
    return [
        base64.b64decode(output["data"]["image/png"])
        for cell in notebook.cells
        if "gallery" in cell.metadata.get("tags", [])
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def keep_picture(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the picture for the gallery, where the notebook has one."""
    for picture in pictures(notebook)[:1]:
        folder = path.resolve().parents[1] / "docs" / "pictures"
        (folder / f"{path.stem}.png").write_bytes(picture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "notebooks", nargs="*", type=Path, help="default: every notebook in this folder"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="run in full and write the outputs into the notebooks",
    )
    arguments = parser.parse_args()
    os.environ["GWFUSION_QUICK"] = (
        "" if arguments.write else "1"
    )  # the notebooks read it

    failed = []
    for path in arguments.notebooks or sorted(FOLDER.glob("*.ipynb")):
        start = time.perf_counter()
        try:
            execute(path.resolve(), arguments.write)
        except CellExecutionError as error:
            failed.append(path.name)
            print(error, file=sys.stderr)
        print(
            f"{path.name}: {'failed' if path.name in failed else 'passed'} "
            f"in {time.perf_counter() - start:.0f} s"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

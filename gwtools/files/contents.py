"""Contents of files: their bytes, decompressed, and the text that these encode."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from gwtools._check import unreadable

# Those of UTF-32 start like those of UTF-16, so that they go first.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_GZIPS_FIRST_BYTES = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed where gzip has compressed it.

    Parameters
    ----------
    path : Path
        The file; it may be compressed whatever its ending is.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    ValueError
        If the file cannot be read or decompressed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise unreadable(
            str(path),
            "be a file that can be read",
            f"it cannot ({reason})",
            "check the name and its rights",
        ) from error
    # Compressed files are told by their ending, so that other files with it are
    # refused, and by their first bytes, since the ending gets lost in downloads.
    if path.suffix.lower() != ".gz" and not data.startswith(_GZIPS_FIRST_BYTES):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(
            str(path),
            "be compressed by gzip",
            f"is not, or not whole ({error})",
            "compress it again",
        ) from error


def decode(data: bytes, path: Path) -> str:
    """Return bytes as text.

    Parameters
    ----------
    data : bytes
        Content of the file.
    path : Path
        The file, for errors.

    Returns
    -------
    str
        The text, by the byte-order mark, else as UTF-8, and as Latin-1 what is not
        UTF-8.

    Raises
    ------
    ValueError
        If the bytes are not of the encoding that their mark says, or no text.
    """
    # The mark is no part of the first cell.
    mark, encoding = _byte_order_mark(data)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if mark:
            position = error.start + len(mark)
            raise unreadable(
                str(path),
                f"be {encoding} text, as its mark says",
                f"byte {position} is none of its own",
                "save it again as UTF-8",
            ) from error
        text = data.decode("latin-1")  # which knows every byte
    # Latin-1 and UTF-8 read null characters out of UTF-16 and of binary files.
    if "\0" in text:
        raise unreadable(
            str(path),
            "hold text",
            "holds null characters",
            "save it as UTF-8 text, or give it the ending of its format",
        )
    return text


def _byte_order_mark(data: bytes) -> tuple[bytes, str]:
    """Return the mark that bytes start with, and its encoding: UTF-8 without one."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return mark, encoding
    return b"", "utf-8"


def first_sentence(error: Exception) -> str:
    """Return the first sentence of another library's error, or its type without one."""
    # It goes into a refusal of ours, which is one sentence; NumPy and networkx write
    # lines of advice behind their first.
    first_line = str(error).partition("\n")[0]
    sentence = first_line.partition(". ")[0].rstrip(".")
    return sentence or type(error).__name__

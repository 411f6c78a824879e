"""What is wrong with a drop, for a person: where it is damaged, which format it has instead, which keys.

A reason may end with the text around the damage. `without_text` removes that for the log, which never holds the content of a
record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import Unreadable
from .reference import NotJson

NEAR = "; near: "
_AROUND = 30  # characters of the text, on either side of the damage
_SHOWN_KEYS = 8
_KEY_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$-]{0,39}")  # the name of a field; any other key may be personal data
_LINE_END = re.compile(r"\r\n|\r|\n")
_HEAD_BYTES = 4096

_AS_CSV_OR_JSON = "save a sheet of users or products as CSV in UTF-8, and export orders as JSON"
# The first bytes of files that people drop by mistake, what these are, and what to do instead.
_SIGNATURES = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"an old Excel workbook (.xls) or another Office file; {_AS_CSV_OR_JSON}"),
    (b"%PDF-", "a PDF document; export the data itself as JSON or CSV"),
    (b"\x1f\x8b", "compressed more than once, with gzip first; decompress it once"),
    (b"\x28\xb5\x2f\xfd", "compressed more than once, with Zstandard first; decompress it once"),
    (b"BZh", "compressed with bzip2, which is not read; use gzip or Zstandard"),
    (b"\xfd7zXZ\x00", "compressed with xz, which is not read; use gzip or Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it and drop the files in it"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it and drop the files in it"),
    (b"PAR1", "a Parquet file; export the data as JSON or CSV"),
    (b"Obj\x01", "an Avro file; export the data as JSON or CSV"),
    (b"SQLite format 3\x00", "a SQLite database; export the data as JSON or CSV"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)  # fmt: skip
_TAR = slice(257, 262), b"ustar"  # where a tar archive says what it is
_SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
_YAML_LINE = re.compile(r"\s*(?:- *)?(?:[A-Za-z_][\w-]*:(?:\s.*)?|- .*)")
_SPREADSHEET = "a spreadsheet ({}); " + _AS_CSV_OR_JSON
_OFFICE = "an Office document, not a spreadsheet; export the data as JSON or CSV"


def refuse_foreign(data: bytes) -> None:
    """Unreadable where the first bytes show that a file is not UTF-8 text. Cheap, also for a large drop."""
    head = bytes(data[:_HEAD_BYTES])
    refuse_markup(head.removeprefix(b"\xef\xbb\xbf"))
    if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
        raise Unreadable(f"the file is {_zipped(head)}")
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            raise Unreadable(f"the file is {what}")
    where, magic = _TAR
    if head[where] == magic:
        raise Unreadable("the file is a tar archive; unpack it and drop the files in it")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(head) > 1 and b"\x00" in head[:2]):
        raise Unreadable("the file is UTF-16 or UTF-32 (or binary); save it as UTF-8")


def likeness(text: str) -> str:
    """What a text without a JSON document seems to be by its first lines."""
    lines = [line for line in _LINE_END.split(text[:_HEAD_BYTES]) if line.strip()][:2]
    for separator, name in _SEPARATORS.items():
        counts = [line.count(separator) for line in lines]
        if len(counts) > 1 and counts[1] >= counts[0] > 0:
            return f"a table whose columns are separated by {name}"
    if lines and (lines[0].startswith("---") or all(map(_YAML_LINE.fullmatch, lines))):
        return "YAML"
    return "plain text"


def refuse_markup(text: bytes) -> None:
    """Unreadable where a text begins as a web page. Neither JSON nor CSV does."""
    if text.lstrip().startswith(b"<"):
        raise Unreadable("the file is HTML or XML, perhaps a web page or an error of a server; drop the data itself")


def _zipped(head: bytes) -> str:
    if b"opendocument.spreadsheet" in head:
        return _SPREADSHEET.format("OpenDocument, .ods")
    if b"[Content_Types].xml" in head or b"xl/" in head:
        return _OFFICE if b"word/" in head or b"ppt/" in head else _SPREADSHEET.format("Excel, .xlsx")
    return "a zip archive, and its name does not say so; drop it under a name that ends in .zip"


def described(error: NotJson, text: str, blank: bytes = b"") -> str:
    """What is wrong with a text, where, and the text around it. `blank`: white space before the text in its file."""
    position = min(error.position, len(text)) + len(blank)
    text = blank.decode() + text
    around = text[max(0, position - _AROUND) : position + _AROUND]
    return f"{error} ({place(text, position)}){NEAR}{around}"


def place(text: str, position: int) -> str:
    """Where a character is, as editors count: lines and columns from 1."""
    line_ends = [match.end() for match in _LINE_END.finditer(text, 0, position)]
    column = position - (line_ends[-1] if line_ends else 0) + 1
    return f"line {1 + len(line_ends):,}, column {column:,}"


def without_text(reason: str) -> str:
    """A reason without the text around the damage."""
    return reason.partition(NEAR)[0]


def shown(key: str) -> str:
    """A key for a reason."""
    return f"`{key}`" if _KEY_NAME.fullmatch(key) else "a key"


def named(keys: Iterable[str]) -> str:
    """The first few keys, for a reason."""
    names = named_list(keys, _SHOWN_KEYS + 1)
    return ", ".join(names[:_SHOWN_KEYS]) + (", …" if len(names) > _SHOWN_KEYS else "") or "none"


def named_list(keys: Iterable[str], most: int = _SHOWN_KEYS) -> list[str]:
    """The first few keys that are names; any other may be personal data."""
    return list(filter(_KEY_NAME.fullmatch, dict.fromkeys(keys)))[:most]

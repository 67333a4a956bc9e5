"""Lines of a text file that somebody else wrote, and names that are not text."""

from __future__ import annotations

from pathlib import Path

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: Code points that would break a line, a table or a terminal, beside those below 32 and 127 to 159.
_BREAKING = (0x2028, 0x2029)


def decoded(data: bytes, name: str) -> str:
    """UTF-8 text, with or without a byte-order mark; a byte that is none stays what it is in a file's name.

    Raises ValueError for UTF-16, which `name` is said to be.
    """
    if data.startswith(_UTF16):
        raise ValueError(f"{name}: it is UTF-16; save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def read_text(path: Path) -> str:
    """The whole file, see `decoded`. Raises ValueError that names it."""
    try:
        return decoded(path.read_bytes(), path.name)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text, without blanks at its ends, of each line that is neither empty nor a comment ("# ...").

    Only line feeds end a line (a carriage return before one is dropped): other separators occur in names.
    """
    lines = ((number, line.strip(" \t\r\f\v")) for number, line in enumerate(read_text(path).split("\n"), 1))
    return [(number, line) for number, line in lines if line and not (line == "#" or line.startswith(("# ", "#\t")))]


def text_id(name: str) -> str:
    r"""A file's name as printable UTF-8 text, different for different names.

    A byte that is no UTF-8 and a control character become \xNN (\uNNNN above 127), and a backslash is doubled.
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(_escaped(character) for character in name)


def _escaped(character: str) -> str:
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:  # how Python carries a byte that is no UTF-8
        return f"\\x{point - 0xDC00:02x}"
    if point < 32 or point == 127:
        return f"\\x{point:02x}"
    if 128 <= point < 160 or 0xD800 <= point <= 0xDFFF or point in _BREAKING:
        return f"\\u{point:04x}"
    return "\\\\" if character == "\\" else character

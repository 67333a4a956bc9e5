"""What goes to a terminal or a log: nothing that acts on it, whatever names and messages from outside hold."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from dix.text import printable


class Printable:
    """A stream that writes text as `printable` makes it, in characters that its encoding has."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and say how much was asked for."""
        self._stream.write(encodable(printable(text, keep="\n\t"), self._stream))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Standard output without escape sequences, for as long as a command runs."""
    with contextlib.redirect_stdout(Printable(sys.stdout)):
        yield


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def log_printable() -> None:
    """Show warnings of the log on the standard error, without escape sequences."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def tell(message: str) -> None:
    """A message of the program to the standard error."""
    print(encodable(f"dix: {printable(message, keep=chr(10))}", sys.stderr), file=sys.stderr)


def encodable(text: str, stream: TextIO) -> str:
    """Text with escapes for the characters that a stream's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)

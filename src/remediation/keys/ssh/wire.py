"""The encoding of SSH (RFC 4251, section 5): strings with their length in front, big integers, and base64 in one form only."""

from __future__ import annotations

import base64
import binascii


class Malformed(ValueError):
    """Bytes that are not what the format asks for. Callers say of what."""


class Reader:
    """Takes a value after another from `data`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """
        The next `size` bytes.

        Raises:
            Malformed: there are fewer.

        """
        if size > len(self._data) - self._at:
            raise Malformed("it ends too early")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def byte(self) -> int:
        """The next byte as a number. Raises Malformed: there is none."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """The next four bytes as a number. Raises Malformed: there are fewer."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """The next string. Raises Malformed: it is longer than what is left."""
        return self.take(self.uint32())

    def text(self) -> str:
        """The next string, printable ASCII. Raises Malformed: it is something else."""
        data = self.string()
        if any(not 0x20 <= byte < 0x7F for byte in data):
            raise Malformed("a name in it is not printable ASCII")
        return data.decode("ascii")

    def mpint(self) -> int:
        """The next big integer, positive and in its shortest form. Raises Malformed: it is not."""
        data = self.string()
        if not data or data[0] & 0x80 or (data[0] == 0 and (len(data) == 1 or not data[1] & 0x80)):
            raise Malformed("a number in it is not positive, or not in its shortest form")
        return int.from_bytes(data, "big")

    def end(self) -> None:
        """Raises Malformed: something is left."""
        if self._at != len(self._data):
            raise Malformed("something follows its end")


def string(data: bytes | str) -> bytes:
    """`data` with its length in front."""
    content = data.encode("ascii") if isinstance(data, str) else data
    return len(content).to_bytes(4, "big") + content


def mpint(number: int) -> bytes:
    """A positive big integer."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def unbase64(text: str) -> bytes:
    """
    The bytes that `text` stands for, if it is their one canonical base64 form (RFC 4648, section 3.5).

    Raises:
        Malformed: it is not: two texts never stand for the same bytes.

    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("it is not base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise Malformed("its base64 is not in canonical form")
    return data

"""Display texts of the catalogue's items. They are for people; no model reads them.

The file is UTF-8 and has one line per item, in the order of the vocabulary. The line of an item without text is empty.
"""

from collections.abc import Sequence

ITEM_TEXTS = "item_texts.txt"


def texts_to_bytes(texts: Sequence[str | None]) -> bytes:
    """Content of the file for the texts of all items; None for an item without text.

    Raises:
        ValueError: a text has more than one line.
    """
    lines = [text or "" for text in texts]
    for position, line in enumerate(lines):
        if "\n" in line or "\r" in line:
            raise ValueError(f"texts[{position}]: got {line[:40]!r}, expected a single line")
    return "".join(f"{line}\n" for line in lines).encode()


def texts_from_bytes(raw: bytes) -> list[str | None]:
    """Inverse of `texts_to_bytes`."""
    return [line or None for line in raw.decode().split("\n")[:-1]]

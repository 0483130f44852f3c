"""Display texts of a catalogue's items, for people: no model reads them.

The file has one line per item, UTF-8, in the order of the vocabulary; an empty line: the item has no text.
"""

from collections.abc import Sequence

ITEM_TEXTS = "item_texts.txt"


def texts_to_bytes(texts: Sequence[str | None]) -> bytes:
    """The file's content.

    Raises:
        ValueError: a text has several lines.
    """
    lines = [text or "" for text in texts]
    for place, line in enumerate(lines):
        if "\n" in line or "\r" in line:
            raise ValueError(f"texts[{place}]: got {line[:40]!r}, expected a single line")
    return "".join(f"{line}\n" for line in lines).encode()


def texts_from_bytes(raw: bytes) -> list[str | None]:
    """Inverse of `texts_to_bytes`."""
    return [line or None for line in raw.decode().split("\n")[:-1]]

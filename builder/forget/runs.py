"""Run folders and prepared folders: outputs that name a forgotten user are removed, and all steps become due.

Nothing is cut out of them. The next build ingests the log without the user and makes every output anew; a log, a
checkpoint and records without one user would look whole, and their counts and weights would still hold that user.
Only texts for people, the run's log and the reports, stay and lose the id.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from builder.errors import LockHeldError
from builder.forget.report import Line, Report
from builder.ingest.events import HEADER, read_user_ids
from builder.run_folder import STEPS_FILE, RunFolder, remove
from models.live.keys import shown_user

EVENTS, TRAINING = "events", "training"
BY_USER = ("records.bin", "histories.bin")
"""Files with an entry for each user."""
UNFINISHED = tuple(f"{name}.new" for name in (EVENTS, *BY_USER))
REPORTS = ("gate.json", "gate.md", "audit.json", "audit.md", "report.md")
"""Texts for people. Older gates named users in them; the others do where an id is the value of a field."""
FOUND_BY = (f"{EVENTS}/{HEADER}", *BY_USER, STEPS_FILE, *REPORTS, *UNFINISHED)
"""What a folder must have to be looked at."""
MIN_BARE = 6
"""Shortest id that is taken out of a log where it stands without quotes: a shorter one may be any number."""
STAND_IN = "(forgotten)"
CHUNK_BYTES = 1 << 20


def run_folders(roots: list[Path]) -> list[Path]:
    """Every run folder and prepared folder below the roots."""
    found = {
        path.parents[pattern.count("/")]
        for root in roots
        for pattern in FOUND_BY
        for path in root.rglob(pattern)
    }
    return sorted(found)


def forget_in_run(path: Path, user_id: str, report: Report) -> None:
    """Remove what a folder holds of a user, and note it."""
    folder = RunFolder(path)
    try:
        with folder.locked():
            _forget(folder, user_id, report)
    except LockHeldError as error:
        report.to_do.append(Line(str(path), f"run folder: {error}; forget again when it has ended"))
    except OSError as error:
        report.to_do.append(Line(str(path), f"run folder: {error}"))


def _forget(folder: RunFolder, user_id: str, report: Report) -> None:
    path = folder.path
    for name in UNFINISHED:  # of a killed builder, and not read by anybody
        remove(path / name)
    files = [path / name for name in BY_USER]
    if _is_in_events(folder.events, user_id) or any(_is_in_file(f, user_id) for f in files):
        # The stamps first: without them, nothing reads what is left after an interruption.
        if folder.stamps():
            folder.forget(list(folder.stamps()))
        for output in (*files, path / TRAINING, path / EVENTS):
            remove(output)
        what = "ingested events, records, base histories and unfinished training; every step is due"
        report.add(str(path), what, 1)
    if lines := _clean(folder.log, _forms(user_id), STAND_IN):
        report.add(str(folder.log), "lines of the log that named the user", lines)
    for name in REPORTS:
        if lines := _clean(path / name, _forms_in_report(user_id), shown_user(user_id)):
            report.add(str(path / name), "lines that named the user: they show the hash now", lines)


def _is_in_events(events: Path, user_id: str) -> bool:
    """Whether an ingested log has the user, or cannot be read."""
    if not events.exists():
        return False
    try:
        return user_id in read_user_ids(events)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _is_in_file(path: Path, user_id: str) -> bool:
    """Whether the bytes of the id are in a file; they may be those of a longer id."""
    needle, overlap = user_id.encode(), b""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if needle in overlap + chunk:
                return True
            overlap = (overlap + chunk)[-len(needle) :]
    return False


def _clean(path: Path, forms: Iterable[str], stand_in: str) -> int:
    """Put a stand-in for the id into a text's lines; return how many had it."""
    if not path.is_file():
        return 0
    pattern = re.compile("|".join(forms))
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    cleaned = [pattern.sub(stand_in, line) for line in lines]
    changed = sum(old != new for old, new in zip(lines, cleaned, strict=True))
    if changed:
        staged = path.with_name(f"{path.name}.new")
        staged.write_text("".join(cleaned))
        staged.replace(path)
    return changed


def _forms(user_id: str) -> Iterator[str]:
    """Patterns of an id in a log: quoted, and bare where it cannot be taken for a number or a word."""
    for quote in ("'", '"'):
        yield re.escape(f"{quote}{user_id}{quote}")
    yield re.escape(repr(user_id))
    yield from _bare(user_id)


def _forms_in_report(user_id: str) -> Iterator[str]:
    """Patterns of an id in a report: a request's user, a field's value. What has a meaning in the JSON stays."""
    for text in {user_id, json.dumps(user_id)[1:-1]}:
        escaped = re.escape(text)
        yield rf"(?<=user ){escaped}(?= at \d)"
        yield rf'(?<="group": "){escaped}(?=")'
        yield rf'(?<=: ){escaped}(?="| \|)'
        yield from _bare(text)


def _bare(text: str) -> Iterator[str]:
    if len(text) >= MIN_BARE and any(char.isdigit() for char in text):
        yield rf"(?<![\w-]){re.escape(text)}(?![\w-])"

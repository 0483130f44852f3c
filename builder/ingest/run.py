"""Stage 1, from top to bottom: read the raw log, clean it, cut it into parts, assemble `Events`.

read      a source's files -> RawLog: tables as they were found      (sources/)
clean     RawLog -> CleanLog: checked columns under our names        (clean.py, columns.py)
cut       times or shares of the recipe -> Split                     (split.py)
assemble  CleanLog + Split -> Events: sorted arrays of dense ids     (assemble.py, catalogue.py)
"""

import hashlib
import logging
import time

from builder.ingest.assemble import assemble
from builder.ingest.checks import require_items, require_no_use_of_times, require_targets
from builder.ingest.clean import NOBODY, clean
from builder.ingest.events import Events
from builder.ingest.sources import SOURCES
from builder.ingest.sources.raw import RawLog
from builder.ingest.split import cut
from builder.ingest.times import report_times
from builder.progress import Progress, silent
from builder.recipe.recipe import Recipe
from models.contract.schema import FIRST_KNOWN
from models.live.tombstones import Tombstones

logger = logging.getLogger(__name__)


STAGES = 4
"""Read, clean, assemble; and the caller writes the events."""


def ingest(recipe: Recipe, progress: Progress = silent, tombstones: Tombstones = NOBODY) -> Events:
    """Read a recipe's log and make events of it.

    Args:
        recipe: names the files and the columns.
        progress: called before each stage, with the number of stages done.
        tombstones: users whose events are dropped.

    Raises:
        EventsError: the log is missing, cannot be read, or does not fit the recipe.
    """
    progress(0, STAGES, "reading the log")
    raw = SOURCES[recipe.data.source].read(recipe)
    logger.info("%s: read %d events", raw.events.source, len(raw.events.frame))
    return ingest_log(raw, recipe, time.time(), progress, tombstones)


def ingest_log(
    raw: RawLog,
    recipe: Recipe,
    now_s: float,
    progress: Progress = silent,
    tombstones: Tombstones = NOBODY,
) -> Events:
    """Make events of a log that a source has read.

    Args:
        raw: the tables.
        recipe: says which columns are used, and how the log is split.
        now_s: current time, epoch seconds; events more than a day later are refused.
        progress: called before each stage, with the number of stages done.
        tombstones: users whose events are dropped.

    Raises:
        EventsError: the tables are not a log, or leave nothing to train, validate or test on.
    """
    source = raw.events.source
    if not raw.columns.time:
        require_no_use_of_times(source, recipe)
    progress(1, STAGES, f"cleaning {len(raw.events.frame):,} events")
    log = clean(raw, recipe.data, now_s, tombstones)
    require_items(source, log)
    if raw.columns.time:
        report_times(source, log.times_s)
    split = cut(log.times_s, log.target_times_s(recipe.split.last_only), recipe.split)
    progress(2, STAGES, "assembling")
    events = assemble(log, split, recipe)
    require_targets(source, events, recipe.history.min_events)
    logger.info(
        "%d users, %d items, %d events",
        events.num_users,
        events.schema.num_items - FIRST_KNOWN,
        len(events.item),
    )
    return events


def input_fingerprint(recipe: Recipe) -> str:
    """Hash of the name, size and modification time of every file that `ingest` reads, 16 hex digits.

    The recipe's own fingerprint does not change when a file is replaced; a nightly build must notice that.

    Raises:
        EventsError: a file does not exist.
    """
    paths = SOURCES[recipe.data.source].find(recipe)
    stats = [(str(path), path.stat()) for path in paths]
    lines = [f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}" for path, stat in stats]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

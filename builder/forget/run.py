"""Forget a user: the tombstone and the cache first, then files of builds and captures, then the servers' own files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.forget.artifacts import note_artifacts
from builder.forget.report import Line, Report
from builder.forget.runs import forget_in_run, run_folders
from builder.forget.server import empty_logs, rewrite_files, servers_of
from builder.publish.cache import CacheClient, cache_errors
from builder.publish.forgotten import tombstones_of_cache
from models.live.captures import clean_file, clean_folder
from models.live.forget import Removed, forget_in_cache
from models.live.keys import log_key, tombstone

REWRITE_LIMIT_S = 600.0
"""Most seconds to wait until a server has written its files anew."""
OUTSIDE = (
    Line("logs of services", "lines with user ids, where ABSORB_LOG_USER_IDS is set"),
    Line("copies", "replicas' files, backups, snapshots of disks, and other machines' run folders"),
    Line("other streams", "topics that events come from, such as Kafka's: until they expire"),
)
"""Places that this command does not reach."""


@dataclass(frozen=True)
class Places:
    """Where a user's data may be.

    Attributes:
        cache_url: URL of the cache.
        runs: folder of all runs.
        artifacts: folder of all artifacts.
        folders: further run folders and prepared folders, or folders of them.
        captured: files of captured requests, or folders of services (`ABSORB_SLOW_DIR`).
        rewrites: whether the servers are asked to write their files anew.
    """

    cache_url: str
    runs: Path
    artifacts: Path
    folders: Sequence[Path] = field(default_factory=tuple)
    captured: Sequence[Path] = field(default_factory=tuple)
    rewrites: bool = True


def forget(client: CacheClient, user_ids: Sequence[str], places: Places) -> list[Report]:
    """Forget users, and report what was done for each.

    Every step may be repeated, and an interrupted run is finished by the next one.

    Raises:
        CacheUnavailableError: the cache does not answer, before anything else is done.
    """
    reports = [_forget_one(client, user_id, places) for user_id in user_ids]
    for server in servers_of(client):
        for user_id, report in zip(user_ids, reports, strict=True):
            empty_logs(server, user_id, report)
        # Once for all users: a server writes all that it holds.
        rewrite_files(server, reports, REWRITE_LIMIT_S if places.rewrites else 0.0)
    for user_id, report in zip(user_ids, reports, strict=True):
        note_artifacts(places.artifacts, user_id, report)
        report.left.extend(OUTSIDE)
    return reports


def _forget_one(client: CacheClient, user_id: str, places: Places) -> Report:
    with cache_errors(client):
        removed = forget_in_cache(client, user_id)
    tombstones = tombstones_of_cache(client, places.cache_url, places.runs)
    report = Report(tombstone(user_id), removed.is_new, tombstones.times.get(tombstone(user_id), 0))
    _note(report, removed)
    for folder in run_folders([places.runs, *places.folders]):
        forget_in_run(folder, user_id, report)
    for path in places.captured:
        _forget_captures(path, report)
    return report


def _note(report: Report, removed: Removed) -> None:
    for (model, place), number in removed.records.items():
        report.add(f"absorb:{model}:{place}:*", "record", number)
    for (model, place), number in removed.histories.items():
        report.add(f"absorb.history:{model}:{place}:*", "base history", number)
    report.add(log_key("*"), "live events of the user's log", removed.live_events)
    for key, number in removed.entries.items():
        report.add(key, "entries", number)
    report.add("absorb:{events}:touched", "mark of new events", int(removed.touched))
    for key in removed.unclean:
        what = "bytes of removed entries stay until the entries beside them are folded"
        report.to_do.append(Line(key, what))


def _forget_captures(path: Path, report: Report) -> None:
    clean = clean_folder if path.is_dir() else clean_file
    try:
        report.add(str(path), "captured requests", clean(path, [report.user]))
    except OSError as error:
        report.to_do.append(Line(str(path), f"captured requests: {error}"))

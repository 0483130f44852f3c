"""Three tiers of tests by what they cost, as pytest markers: `unit`, `server`, `processes`.

    make test ARGS="-m unit"        nothing but the code under test: under a minute
    make test ARGS="-m server"      a real cache server, a service in this process, or a small training
    make test ARGS="-m processes"   whole programs: builders, services, images, clients

A test's tier follows from its file and its fixtures, so that a new test needs no marker of its own.
"""

from collections.abc import Iterable

PROCESSES = (
    "tests/docker/test_images.py",
    "tests/e2e/",
    "tests/loadtest/",
    "tests/service/process/",
    "tests/service/tools/",
    "tests/service/v2/test_clients.py",
    "tests/service/v2/test_other_clients.py",
    "tests/builder/publish/test_blue_green_killed.py",
    "tests/builder/publish/test_builders_at_once.py",
    "tests/builder/publish/test_cluster_publish.py",
    "tests/builder/cli/",
    "tests/test_docs.py",
    "tests/test_sbom.py",
    "tests/test_wheel.py",
)
"""Files and folders whose tests start programs of their own."""

TRAININGS = (
    "tests/builder/audit/test_old_default.py",
    "tests/builder/experiments/",
    "tests/builder/export/",
    "tests/builder/language/",
    "tests/builder/train/",
    "tests/builder/test_pipeline.py",
    "tests/builder/ingest/sources/",
    "tests/models/test_missing_fields.py",
    "tests/models/test_registry.py",
    "tests/test_parity.py",
)
"""Files and folders whose tests train a model, export one or read a whole log."""

SERVER_FIXTURES = frozenset(
    {
        "build",
        "builds",
        "client",
        "finished",
        "module_world",
        "own_cache",
        "server",
        "shared_cache",
        "target",
        "world",
    }
)
"""Fixtures that start a cache server or need a finished build."""


def tier_of(nodeid: str, fixtures: Iterable[str]) -> str:
    """Marker of a test.

    Args:
        nodeid: pytest's name of the test: its file, then `::`.
        fixtures: names of the fixtures that it uses, those of its fixtures included.
    """
    if nodeid.startswith(PROCESSES):
        return "processes"
    if nodeid.startswith(TRAININGS) or not SERVER_FIXTURES.isdisjoint(fixtures):
        return "server"
    return "unit"

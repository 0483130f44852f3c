"""The load generator's commands, for `absorb --help`. Imports none of them."""

from models.command_line import Command

LOAD = "Load and faults"
EXTRAS = "load, and cpu or gpu"
COMMANDS = (
    Command(
        "load",
        LOAD,
        "Run the load scenarios; fail above the p99 limit.",
        "loadtest.__main__",
        EXTRAS,
        "main",
    ),
    Command(
        "chaos",
        LOAD,
        "Break cache, service and clients under load.",
        "loadtest.chaos.__main__",
        EXTRAS,
        "main",
    ),
    Command(
        "peers",
        LOAD,
        "Compare with other servers of the same model.",
        "loadtest.peers.__main__",
        EXTRAS,
        "main",
    ),
    Command(
        "modes", LOAD, "Compare processes, threads and batching.", "loadtest.modes", EXTRAS, "main"
    ),
)

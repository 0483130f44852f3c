"""The service's commands, for `absorb --help`. Imports none of them."""

from models.command_line import Command

SERVE, RUNTIME = "Serve", "cpu or gpu"
COMMANDS = (
    Command(
        "serve", SERVE, "Score candidates over HTTP, from the cache.", "service.__main__", RUNTIME
    ),
    Command(
        "demo",
        SERVE,
        "Score one user's candidates, print them by rank.",
        "service.tools.demo",
        RUNTIME,
    ),
    Command("follow", SERVE, "Fold live events into states.", "service.tools.follow", RUNTIME),
    Command(
        "replay",
        SERVE,
        "Score captured requests again, or between two builds.",
        "service.tools.replay",
    ),
    Command("keys", SERVE, "Make an API key, and its hash for the settings.", "service.tools.keys"),
)

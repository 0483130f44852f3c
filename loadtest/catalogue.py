"""The load generator's commands, for `absorb --help`. Imports none of them."""

from models.command_line import Command


def _command(name: str, summary: str, module: str) -> Command:
    return Command(name, "Load and faults", summary, module, "load, and cpu or gpu")


COMMANDS = (
    _command("load", "Run the load scenarios; fail above the p99 limit.", "loadtest.__main__"),
    _command("chaos", "Break cache, service and clients under load.", "loadtest.chaos.__main__"),
    _command("peers", "Compare with other servers of the same model.", "loadtest.peers.__main__"),
    _command("modes", "Compare processes, threads and batching.", "loadtest.modes"),
    _command("bench-engines", "Time the CPU engines in turn.", "loadtest.engines.__main__"),
    _command(
        "bench-fresh", "Time events until scores change, and workers.", "loadtest.fresh.__main__"
    ),
    _command("gpu-check", "Check the GPU path on this machine.", "loadtest.gpu_check.__main__"),
)

"""The builder's commands, for `absorb --help`. Imports none of them."""

from models.command_line import Command

NIGHTLY, RECOVER, INSPECT, EXPERIMENTS = (
    "Build the cache (nightly)",
    "Recover",
    "Inspect",
    "Experiments",
)
EXTRAS = "builder, and cpu or gpu"
STEPS = {
    "ingest": "Read, check and index the recipe's event log.",
    "audit": "Look for rules that give labels away; a build with one stops.",
    "train": "Train the recipe's model on the ingested log.",
    "evaluate": "Measure the trained model on the test period, beside the baselines.",
    "export": "Write the artifact: weights and ONNX graphs, compared with torch.",
    "precompute": "Encode every user's history into a record.",
    "gate": "Compare the new model with the serving one; a worse one is refused.",
    "publish": "Write the records to the cache, verify them, flip the pointer.",
}
"""Step -> what it does, in the order of the pipeline."""


def _command(name: str, panel: str, summary: str, module: str, extras: str = EXTRAS) -> Command:
    return Command(name, panel, summary, f"builder.cli.{module}", extras, is_member=True)


COMMANDS = (
    _command("build", NIGHTLY, "Do every step that is due: the nightly job.", "nightly"),
    *(
        _command(name, NIGHTLY, summary, "audit" if name == "audit" else "nightly")
        for name, summary in STEPS.items()
    ),
    _command("rollback", RECOVER, "Make the previous generation serve again.", "cache", ""),
    _command("default", RECOVER, "Choose the model of requests that name none.", "cache", ""),
    _command("republish", RECOVER, "Publish with an older artifact.", "nightly"),
    _command("forget", RECOVER, "Remove a user, and keep the user out.", "forget"),
    _command("items", RECOVER, "Register, list or remove new items.", "items", ""),
    _command("init", INSPECT, "Write a first recipe for a log.", "init"),
    _command("status", INSPECT, "Show what is published, and who is building.", "cache", ""),
    Command(
        "plan", INSPECT, "Compute the memory that the cache needs.", "builder.cli.plan", EXTRAS
    ),
    _command("compare", EXPERIMENTS, "Train and compare a recipe's variants.", "experiments"),
    _command("prepare", EXPERIMENTS, "Write a folder to train from elsewhere.", "experiments"),
    _command(
        "scaling", EXPERIMENTS, "Fit power laws of the loss to model and data size.", "experiments"
    ),
    _command("llactr", EXPERIMENTS, "Measure field vectors of a language model.", "experiments"),
    _command("new-items", EXPERIMENTS, "Measure the scores of new items.", "experiments"),
    _command(
        "simulate-days", EXPERIMENTS, "Compare retrains, warm starts, folding.", "simulate_days"
    ),
    _command("gate-trial", EXPERIMENTS, "Plant bad models at the promotion gate.", "gate_trial"),
    _command(
        "bench", EXPERIMENTS, "Time scoring against length, candidates, rank, width.", "experiments"
    ),
)

"""The errors that only the builder raises.

AbsorbError                    models/contract/errors.py
├── RecipeError                a recipe has unknown, missing or impossible keys
├── EventsError                an event log cannot be read
├── StepError                  a build step cannot start
│   ├── LockHeldError          another builder holds the lock
│   ├── LeakError              the leak audit found rules that give labels away
│   ├── GateError              the promotion gate refused a new model
│   └── OtherTaskError         an artifact cannot score the log: it was made for another one
├── PublishError               the cache does not hold what the builder meant to write
│   └── NotServedError         a generation is published, and a live service does not serve it
├── WeightsError               the weights of a language model cannot be used
│   ├── WeightsMissingError    the package that holds them is not installed
│   └── WeightsTamperedError   a file differs from the published one
└── ArtifactError              models/contract/errors.py
    └── ExportMismatchError    the exported graph and torch give different scores
"""

from collections.abc import Mapping

from models.contract.errors import AbsorbError, ArtifactError


class RecipeError(AbsorbError):
    """A recipe has unknown, missing or impossible keys. The error lists all of them.

    Attributes:
        problems: one line per key.
    """

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{source}: {len(problems)} problem(s) in this recipe:{lines}")


class EventsError(AbsorbError):
    """An event log cannot be read."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")


class StepError(AbsorbError):
    """A build step cannot start, for example because an earlier step has not run."""


class LockHeldError(StepError):
    """Another builder holds the lock.

    Attributes:
        holder: the process that holds the lock, with its host and start time.
    """

    def __init__(self, what: str, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{what} is being built by another builder ({holder}); this builder stops")


class LeakError(StepError):
    """The leak audit found rules that give labels away, and the recipe does not allow them.

    Attributes:
        rules: their names.
    """

    def __init__(self, rules: list[str], text: str) -> None:
        self.rules = rules
        super().__init__(text)


class GateError(StepError):
    """The promotion gate refused a new model: the generation that serves stays.

    Attributes:
        failed: names of the checks that failed.
    """

    exit_code = 3

    def __init__(self, model: str, failed: Mapping[str, str], report: str) -> None:
        self.failed = list(failed)
        lines = "".join(f"\n  - {name}: {text}" for name, text in failed.items())
        super().__init__(
            f"gate: the new model {model!r} is refused; what serves stays, and nothing was written to the cache:{lines}"
            f"\nReport: {report}. To publish it anyway: --force"
        )


class OtherTaskError(StepError):
    """An artifact cannot score the log: it was made for another one."""

    def __init__(self, artifact_id: str, reason: str) -> None:
        super().__init__(
            f"artifact {artifact_id}: {reason}; expected an artifact of this log's fields and items"
        )


class ExportMismatchError(ArtifactError):
    """An exported graph or plan, and torch, give different scores."""

    def __init__(self, difference: float, limit: float) -> None:
        super().__init__(
            f"export: exported scores differ from torch's by {difference:.2e}, expected at most {limit:.0e}"
        )


class PublishError(AbsorbError):
    """The cache does not hold what the builder meant to write."""


class NotServedError(PublishError):
    """A generation is published, and a live service does not serve it.

    Attributes:
        missing: live service -> why it does not serve the generation.
    """

    def __init__(
        self, model: str, generation: str, limit_s: float, missing: Mapping[str, str]
    ) -> None:
        self.missing = dict(missing)
        lines = "".join(f"\n  - {service}: {reason}" for service, reason in missing.items())
        super().__init__(
            f"model {model!r}: {generation} is published, and after {limit_s:g} s {len(missing)} running service(s) do "
            f"not serve it; they keep what they have, and follow as soon as they can:{lines}"
        )


class WeightsError(AbsorbError):
    """The weights of a language model cannot be used."""


class WeightsMissingError(WeightsError):
    """The package that holds the weights is not installed."""

    def __init__(self, package: str, command: str) -> None:
        super().__init__(f"language model: package {package} is not installed; {command}")


class WeightsTamperedError(WeightsError):
    """A file of weights differs from the published one."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(
            f"language model: {path} has sha256 {got}, expected {expected}; install its package again"
        )

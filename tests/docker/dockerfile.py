"""Dockerfiles as data: their instructions, the stages they name, and the steps of a stage done outside a container."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
IMAGE_FOLDERS = ("/venv", "/app", "/build")
"""Folders of an image that its steps name; outside a container they lie under `Image.root`."""
SYSTEM_STEPS = ("apt-get", "groupadd")
"""Steps that change the operating system: Debian packages and users. They are skipped outside a container."""

Instruction = tuple[str, str]


def instructions(path: Path) -> list[Instruction]:
    """(instruction, arguments) of each step; comments are dropped and continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(w[0], w[1]) for line in joined.splitlines() if len(w := line.split(maxsplit=1)) == 2]


def stages(path: Path) -> dict[str, list[Instruction]]:
    """Instructions of each named stage, those of the stage that it builds on first."""
    by_name: dict[str, list[Instruction]] = {}
    for instruction, rest in instructions(path):
        if instruction == "FROM":
            base, name = rest.split(" AS ")
            by_name[name] = list(by_name.get(base, []))
        else:
            by_name[name].append((instruction, rest))
    return by_name


def copied(steps: list[Instruction]) -> Iterator[str]:
    """Paths of the repository that the steps copy into the image."""
    for instruction, rest in steps:
        if instruction == "COPY" and "--from=" not in rest:
            yield from rest.split()[:-1]


def default_arguments(path: Path) -> dict[str, str]:
    """ARG names and their default values."""
    pairs = (rest.partition("=") for name, rest in instructions(path) if name == "ARG")
    return {name: value.strip('"') for name, _, value in pairs}


@dataclass
class Image:
    """The steps of one stage (and of the stages that it needs), done under a folder in place of a container's root.

    Attributes:
        root: holds the image's `/venv`, `/app` and `/build`.
        environment: variables that the stage's ENV steps set, PATH included.
        entrypoint: command of the last ENTRYPOINT step.
        command: arguments of the last CMD step.
        healthcheck: command of the last HEALTHCHECK step.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _system_path()})
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    _folder: str = "/"

    @property
    def workdir(self) -> Path:
        """Folder in which the image's program starts."""
        return Path(self.mapped(self._folder))

    def mapped(self, text: str) -> str:
        """The text with the image's folders in place under `root`."""
        for folder in IMAGE_FOLDERS:
            text = re.sub(rf"(?<![\w.]){folder}(?=[/ :\"]|$)", f"{self.root}{folder}", text)
        return text

    def build(self, path: Path, stage: str, arguments: Mapping[str, str]) -> None:
        """Do the steps of `install`, then those of the stage.

        Args:
            path: of the Dockerfile.
            stage: the stage to build.
            arguments: values of its build arguments; the others have their defaults.
        """
        values = {**default_arguments(path), **arguments}
        self._do_all(stages(path)["install"], values)
        self.environment = {"PATH": _system_path()}
        self._do_all(stages(path)[stage], values)

    def _do_all(self, steps: list[Instruction], arguments: Mapping[str, str]) -> None:
        do = {
            "RUN": lambda rest: self._run(rest, arguments),
            "COPY": self._copy,
            "WORKDIR": self._enter,
            "ENV": self._set,
            "ENTRYPOINT": self._set_entrypoint,
            "CMD": self._set_command,
            "HEALTHCHECK": self._set_healthcheck,
        }
        for instruction, rest in steps:
            if instruction in do:
                do[instruction](rest)

    def _enter(self, folder: str) -> None:
        self._folder = folder
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _set_entrypoint(self, rest: str) -> None:
        self.entrypoint, self.command = json.loads(rest), []

    def _set_command(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _set_healthcheck(self, rest: str) -> None:
        self.healthcheck = json.loads(rest.split("CMD ", 1)[1])

    def _run(self, script: str, arguments: Mapping[str, str]) -> None:
        if script.startswith(SYSTEM_STEPS):
            return
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        done = subprocess.run(
            ["/bin/sh", "-c", self.mapped(script)],
            cwd=self.workdir,
            env={
                **pip,
                "PIP_NO_COMPILE": "1",
                "HOME": str(self.root),
                **self.environment,
                **arguments,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"RUN {script}\n{done.stdout}\n{done.stderr}")

    def _copy(self, rest: str) -> None:
        if rest.startswith("--from="):
            return  # the install stage was done under the same root
        *sources, target = rest.split()
        for source in sources:
            to = self.workdir / target / ("" if target.rstrip("/").endswith(source) else source)
            if (ROOT / source).is_dir():
                # Git knows what a clean checkout holds; a working tree has caches beside it.
                for name in _tracked(source):
                    (to / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(ROOT / source / name, to / name)
            else:
                shutil.copyfile(ROOT / source, to)

    def _set(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            self.environment[name] = self.mapped(value).replace("$PATH", self.environment["PATH"])


def _tracked(folder: str) -> list[str]:
    """Files under a folder of the repository, new ones included, ignored ones not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT / folder,
        capture_output=True,
        check=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if (ROOT / folder / name).is_file()]


def _system_path() -> str:
    """PATH of the base image: a Python without this project's packages, and the shell's tools."""
    base = Path(sys.base_prefix) / "bin"
    return f"{base}:/usr/local/bin:/usr/bin:/bin"

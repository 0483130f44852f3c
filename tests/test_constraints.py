"""What is installed is what was pinned: an audit of constraints.txt is one of what runs."""

import re
from importlib.metadata import distributions
from pathlib import Path

PINS = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.M)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_installed_versions_are_those_of_the_constraints() -> None:
    text = (Path(__file__).parents[1] / "constraints.txt").read_text()
    pinned = {canonical(name): version for name, version in PINS.findall(text)}
    installed = {
        canonical(one.metadata["Name"]): one.version.split("+")[0] for one in distributions()
    }
    assert len(pinned.keys() & installed.keys()) > 50
    different = {
        name: (installed[name], version)
        for name, version in pinned.items()
        if name in installed and installed[name] != version
    }
    assert different == {}

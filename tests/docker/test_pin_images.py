"""docker/pin-images.sh on copies of the real files. No registry is asked: a stand-in for docker gives the digests."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.docker.dockerfile import DOCKERFILES, ROOT
from tests.docker.test_files import SCHEMA

FILES = [*DOCKERFILES, ROOT / "docker-compose.yml"]
STAND_IN = """#!/bin/sh
[ "$1 $2 $3 $4" = "buildx imagetools inspect --format" ] || exit 9
case "$6" in *@*) exit 8 ;; esac
printf 'sha256:%s\\n' "$(printf %s "$6-{moved}" | sha256sum | cut -d ' ' -f 1)"
"""


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(file, tmp_path)) for file in FILES]


def pin(copies: list[Path], docker: str) -> subprocess.CompletedProcess[str]:
    folder = copies[0].parent
    (folder / "docker").write_text(docker)
    (folder / "docker").chmod(0o755)
    return subprocess.run(
        [ROOT / "docker/pin-images.sh", *copies],
        env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def digest_of(image: str, moved: str = "") -> str:
    return f"sha256:{hashlib.sha256(f'{image}-{moved}'.encode()).hexdigest()}"


def images(text: str) -> list[str]:
    """Images of other projects that a file names."""
    found = re.findall(r"^(?:FROM| *image:) (\S+:\S+)", text, re.M)
    return [image.partition("@")[0] for image in found]


def test_each_image_gets_the_digest_of_its_tag_and_nothing_else_changes(copies):
    for moved in ("", "later"):  # the second run follows tags that were moved
        done = pin(copies, STAND_IN.replace("{moved}", moved))
        assert done.returncode == 0, done.stderr
        for file, copy in zip(FILES, copies, strict=True):
            text, named = copy.read_text(), images(file.read_text())
            assert named
            assert images(text) == named
            for image in named:
                assert f" {image}@{digest_of(image, moved)}" in text
            unpinned = re.sub(r"@sha256:[0-9a-f]{64}", "", file.read_text())
            assert re.sub(r"@sha256:[0-9a-f]{64}", "", text) == unpinned
    jsonschema.validate(yaml.safe_load(copies[-1].read_text()), SCHEMA)


@pytest.mark.parametrize("docker", ["#!/bin/sh\necho latest\n", "#!/bin/sh\nexit 1\n"])
def test_what_is_no_digest_is_not_written(copies, docker):
    done = pin(copies, docker)
    assert done.returncode == 1
    assert [copy.read_text() for copy in copies] == [file.read_text() for file in FILES]

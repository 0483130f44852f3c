"""The images and the compose stack, checked without a docker daemon: linters, the specification, cross-references."""

import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from service.settings import Settings
from tests.docker.compose_cache import COMPOSE, USERS
from tests.docker.dockerfile import DOCKERFILES, ROOT, copied, instructions, stages

SCHEMA = json.loads((ROOT / "tests/docker/compose.schema.json").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
BUILT = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
SETTINGS = {f"ABSORB_{name.upper()}" for name in Settings.model_fields}

each_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def test_both_images_are_there() -> None:
    assert [path.name for path in DOCKERFILES] == ["builder.Dockerfile", "service.Dockerfile"]


@each_dockerfile
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@each_dockerfile
def test_bases_are_pinned_to_an_exact_version(path: Path) -> None:
    own = set(stages(path))
    bases = [
        rest.split(" AS ")[0] for instruction, rest in instructions(path) if instruction == "FROM"
    ]
    foreign = [base for base in bases if base not in own]
    assert foreign
    assert all(
        re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z-]+(@sha256:[0-9a-f]{64})?", base)
        for base in foreign
    )


@each_dockerfile
def test_every_final_stage_runs_as_a_numbered_user_who_is_not_root(path: Path) -> None:
    for name, stage in stages(path).items():
        users = [rest for instruction, rest in stage if instruction == "USER"]
        assert name == "install" or users == ["10001:10001"], name


@each_dockerfile
def test_pip_takes_nothing_whose_hash_is_not_listed(path: Path) -> None:
    text = path.read_text()
    steps = re.findall(r"\bpip (?:install|wheel) (.*?)(?=&&|\n[A-Z#])", text, re.S)
    *downloads, wheel, project = steps
    assert len(downloads) == (3 if path.name == "builder.Dockerfile" else 2)
    for step in downloads:
        assert "--require-hashes --no-deps" in step
        assert "--only-binary :all:" in step
    assert "--no-build-isolation" in wheel
    assert "--no-index" in project
    assert "--extra-index-url" not in text
    assert all("--no-cache-dir" in step for step in [*downloads, project])


@each_dockerfile
def test_every_copied_path_exists_and_reaches_the_build(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = list(copied(instructions(path)))
    assert sources
    assert "*" in ignored  # nothing reaches a build unless it is named
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


@each_dockerfile
def test_extras_are_those_of_pyproject(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (default,) = [
        rest.removeprefix("EXTRAS=").strip('"').split()
        for instruction, rest in instructions(path)
        if instruction == "ARG" and rest.startswith("EXTRAS=")
    ]
    given = [
        re.sub(r"\$\{\w+:-(.*)}", r"\1", build["args"]["EXTRAS"]).split()
        for build in BUILT.values()
        if build["dockerfile"].endswith(path.name) and "args" in build
    ]
    for names in [default, *given]:
        assert set(names) <= set(extras), names
        assert len({"cpu", "gpu"} & set(names)) == 1, names


def test_the_worker_for_kafka_has_what_it_needs_and_is_else_the_same() -> None:
    plain, kafka = SERVICES["follow"], SERVICES["follow-kafka"]
    assert "kafka" in kafka["build"]["args"]["EXTRAS"].split()
    assert kafka["profiles"] == ["kafka"]
    own = {"ABSORB_KAFKA_SERVERS", "ABSORB_KAFKA_TOPIC", "ABSORB_KAFKA_OPTIONS"}
    assert kafka["environment"].keys() == plain["environment"].keys() | own
    # Compose reads the variables of profiles that are not started, too: each has a default, or is passed on if set.
    assert kafka["environment"]["ABSORB_KAFKA_OPTIONS"] is None
    assert all(":-" in kafka["environment"][name] for name in own - {"ABSORB_KAFKA_OPTIONS"})
    different = {"build", "profiles", "environment"}
    assert {name: kafka[name] for name in kafka.keys() - different} == {
        name: plain[name] for name in plain.keys() - different
    }


def test_the_service_needs_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = " ".join([*project["dependencies"], *extras["cpu"], *extras["gpu"], *extras["load"]])
    assert "torch" not in named
    assert "torch==2.13.0" in extras["builder"]


def test_the_service_image_says_whether_it_is_ready() -> None:
    stage = stages(ROOT / "docker/service.Dockerfile")["service"]
    (check,) = [rest for instruction, rest in stage if instruction == "HEALTHCHECK"]
    command = json.loads(check.split("CMD ", 1)[1])
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/health/ready" in command[2]


@pytest.mark.parametrize(("certificate", "scheme"), [(None, "http"), ("/run/c.pem", "https")])
def test_both_health_checks_speak_the_scheme_of_the_service(
    certificate: str | None, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stages(ROOT / "docker/service.Dockerfile")["service"]
    (check,) = [rest for instruction, rest in stage if instruction == "HEALTHCHECK"]
    codes = [
        json.loads(check.split("CMD ", 1)[1])[2],
        SERVICES["service"]["healthcheck"]["test"][3],
    ]
    monkeypatch.setenv("ABSORB_PORT", "8000")
    if certificate:
        monkeypatch.setenv("ABSORB_TLS_CERT_FILE", certificate)
    urls: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, **_: urls.append(url))
    for code in codes:
        exec(code)
    assert urls == [f"{scheme}://127.0.0.1:8000/health/ready"] * 2


def test_commands_are_in_exec_form() -> None:
    for path in DOCKERFILES:
        for instruction, rest in instructions(path):
            if instruction in ("CMD", "ENTRYPOINT"):
                assert isinstance(json.loads(rest), list)


def test_compose_follows_the_specification() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(COMPOSE, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "redis:latest"),
        ("image", "redis:8.1.3@sha256:1234"),
        ("user", "0"),
        ("privileged", True),
        ("restart", False),
        ("mem_limit", "0"),
        ("pids_limit", -1),
    ],
)
def test_the_schema_refuses(key: str, value: object) -> None:
    broken = {**COMPOSE, "services": {"cache": {**SERVICES["cache"], key: value}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA, jsonschema.Draft202012Validator)


def test_dependencies_name_services_that_can_meet_the_condition() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], (name, other)
            if wanted["condition"] == "service_completed_successfully":
                assert SERVICES[other]["restart"] == "no", (name, other)
            # A service without a profile cannot wait for one that its profile leaves out.
            others = SERVICES[other].get("profiles", [])
            assert not others or set(service.get("profiles", [])) <= set(others), (name, other)


def test_volumes_are_declared_and_used() -> None:
    used = {volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", [])}
    folders = {name for name in used if name.startswith("./")}
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert used - folders == set(COMPOSE["volumes"])


def test_only_the_builder_writes_artifacts() -> None:
    mounts = {
        name: volume
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if volume.startswith("artifacts:")
    }
    assert mounts.pop("builder") == "artifacts:/app/var/artifacts"
    assert set(mounts.values()) == {"artifacts:/app/var/artifacts:ro"}
    assert Path("/app") / Settings.model_fields["artifact_dir"].default == Path(
        "/app/var/artifacts"
    )


@pytest.mark.parametrize("name", BUILT)
def test_builds_name_files_stages_and_arguments_that_exist(name: str) -> None:
    path = ROOT / BUILT[name]["dockerfile"]
    assert path in DOCKERFILES
    declared = {
        rest.split("=")[0] for instruction, rest in instructions(path) if instruction == "ARG"
    }
    assert set(BUILT[name].get("args", {})) <= declared
    assert BUILT[name].get("target", list(stages(path))[-1]) in stages(path)


def test_the_service_is_not_killed_while_it_drains() -> None:
    grace_s = float(SERVICES["service"]["stop_grace_period"].removesuffix("s"))
    fields = Settings.model_fields
    assert grace_s > fields["drain_delay_s"].default + fields["drain_limit_s"].default


def test_the_service_is_open_to_this_machine_only() -> None:
    assert SERVICES["service"]["environment"]["ABSORB_ALLOW_OPEN"] == "true"
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["service"]["ports"])


def test_absorb_variables_are_settings() -> None:
    texts = [path.read_text() for path in [*DOCKERFILES, ROOT / "docker-compose.yml"]]
    named = set(re.findall(r"\bABSORB_[A-Z_]+", " ".join(texts)))
    assert "ABSORB_CACHE_URL" in named
    assert named <= SETTINGS


def test_passwords_come_from_outside_and_are_required() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    uses = re.findall(r"\$\{(\w+_PASSWORD)(.)(.)", text)
    assert {name for name, _, _ in uses} == {
        *(f"CACHE_{user.upper()}_PASSWORD" for user in USERS),
        "GRAFANA_PASSWORD",
    }
    # No default, and a message when one is unset or empty.
    assert {(colon, mark) for _, colon, mark in uses} == {(":", "?")}
    for line in (
        "CACHE_ADMIN CACHE_BUILDER CACHE_SERVICE CACHE_WORKER CACHE_READER GRAFANA",
        "${name}_PASSWORD=",
    ):
        assert line in text.split("services:")[0]
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("builder", "builder"),
        ("service", "service"),
        ("load", "reader"),
        ("follow", "worker"),
        ("follow-kafka", "worker"),
    ],
)
def test_each_container_is_a_user_of_its_own(name: str, user: str) -> None:
    url = SERVICES[name]["environment"]["ABSORB_CACHE_URL"]
    expected = f"redis://{user}:${{CACHE_{user.upper()}_PASSWORD:?set it in .env}}@cache:6379/0"
    assert url == expected
    assert "ADMIN" not in json.dumps(SERVICES[name])


def test_only_what_talks_to_the_cache_can_reach_it() -> None:
    assert COMPOSE["networks"]["cache"] == {"internal": True}
    near = {name for name, one in SERVICES.items() if "cache" in one.get("networks", [])}
    assert near == {"cache", "builder", "service", "follow", "follow-kafka", "load"}
    assert "default" in SERVICES["service"]["networks"]  # an internal network publishes no port


def test_the_cache_may_grow_beyond_its_records() -> None:
    cache = SERVICES["cache"]
    assert cache["environment"]["MAXMEMORY"] == "${CACHE_MAXMEMORY:-2gb}"
    assert cache["mem_limit"] == "${CACHE_MEMORY:-4gb}"


def test_no_secret_is_baked_into_a_layer() -> None:
    for path in DOCKERFILES:
        for instruction, rest in instructions(path):
            if instruction in ("ARG", "ENV"):
                assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", rest), rest


def test_the_cache_keeps_its_files_in_a_volume() -> None:
    assert "cache:/data" in SERVICES["cache"]["volumes"]
    assert '--dir "${CACHE_DIR:-/data}"' in (ROOT / "docker/cache/start.sh").read_text()


@each_dockerfile
@pytest.mark.parametrize("extras", ["cpu", "cpu load"])
def test_the_install_step_names_the_file_of_each_extra(path: Path, extras: str) -> None:
    run = next(rest for instruction, rest in instructions(path) if rest.startswith("set --;"))
    script = run.split("python -m venv")[0] + 'printf "%s\\n" "$@"'

    done = subprocess.run(
        ["/bin/sh", "-euc", script],
        env={"EXTRAS": extras}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    files = [f"requirements/{name}.txt" for name in ["base", *extras.split()]]
    assert done.stdout.splitlines() == [word for file in files for word in ("--requirement", file)]
    assert all((ROOT / file).is_file() for file in files)

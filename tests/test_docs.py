"""The documentation: links resolve, the site builds strictly and loads nothing remote, the reference is complete."""

import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from markdown.extensions.toc import slugify
from prometheus_client import CollectorRegistry

from builder.recipe.recipe import load_recipe
from docs.generate import commands, grpc_calls, hook, metrics, recipe, routes, settings
from models.command_line import load
from models.registry import MODELS
from service.app import create_app
from service.settings import Settings
from service.wiring import build_dependencies

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "loadtest").rglob("*.md")])
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
MAX_README_LINES = 150
SECTIONS = {name for name, _ in recipe.sections()} - {"model"}
SHIPPED = ROOT / "builder" / "recipes"
RECIPES = sorted([*SHIPPED.glob("*.toml"), *SHIPPED.glob("experiments/*.toml")])

PACKAGES = ("builder", "service", "loadtest")


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {slugify(heading.replace("`", ""), "-") for heading in plain}


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere, and anchors that their page does not have."""
    broken = []
    for link in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target.is_relative_to(DOCS) and target.relative_to(DOCS).as_posix() in shown_elsewhere():
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


def shown_elsewhere() -> set[str]:
    """Pages of the site that are no files below docs/: the strict build checks the links to them."""
    return {*hook.PAGES, *hook.ROOT_PAGES.values()}


def test_relative_links_resolve() -> None:
    assert len(PAGES) > 80
    assert {name_of(page): broken for page in PAGES if (broken := broken_links(page))} == {}


def test_a_broken_link_and_a_missing_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, `code`\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#a-heading-code) [b](there.md#other) [c](gone.md) [d](https://x.y)"
    )
    assert broken_links(page) == ["there.md#other", "gone.md"]


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def test_every_make_target_that_is_named_exists() -> None:
    targets = {name for name, _ in commands.make_targets()}
    named = re.compile(r"(?:^    |`)make ([a-z-]+)", re.M)
    unknown = {
        name_of(page): others
        for page in PAGES
        if (others := set(named.findall(page.read_text())) - targets)
    }
    assert unknown == {}


def test_every_command_that_is_named_exists() -> None:
    names = {command.name for command in commands.CATALOGUE}
    found = []
    for page in set(PAGES) - {ROOT / "CHANGELOG.md"}:  # it names what is gone
        text = page.read_text()
        found += re.findall(r"(?:`|bin/)absorb ([a-z-]+)", text)
        for package, inner, word in re.findall(r"python -m (\w+)((?:\.\w+)*)(?: ([a-z-]+))?", text):
            module = ROOT / f"{package}{inner}".replace(".", "/")
            is_there = module.with_suffix(".py").exists() or (module / "__main__.py").exists()
            assert is_there or package not in PACKAGES, (name_of(page), package + inner)
            assert package != "builder" or inner or word in names | {""}, (name_of(page), word)
    assert len(found) > 20
    assert set(found) - names == set()


def test_every_recipe_that_is_named_exists() -> None:
    named = re.compile(r"builder/recipes/[\w/.-]+\.toml")
    found = [(page, name) for page in PAGES for name in named.findall(page.read_text())]
    assert len(found) > 10
    assert [name for _, name in found if not (ROOT / name).exists()] == []


# The reference


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_reference_and_says_what_it_does(name: str) -> None:
    rows = re.findall(rf"^\| `ABSORB_{name.upper()}` \| (.+) \| (.+) \|$", settings.page(), re.M)
    assert len(rows) == 1
    assert len(rows[0][1]) > 20


def keys_of(table: dict[str, Any], section: str = "") -> Iterator[tuple[str, str]]:
    """Section and key of everything that a recipe says; not what is in free tables."""
    for key, value in table.items():
        yield section, key
        name = f"{section}.{key}".lstrip(".")
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict) and name in SECTIONS:
                yield from keys_of({k: v for k, v in inner.items() if k != "model"}, name)


def section_of(page: str, name: str) -> str:
    """Text of one section of the page of recipe keys."""
    heading = f"## `[{name}]`" if name else "## Top level"
    return page.split(f"{heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_every_key_that_a_shipped_recipe_uses_is_in_the_reference(path: Path) -> None:
    page, read = recipe.page(), tomllib.loads(path.read_text())
    load_recipe(path)
    for key in read.keys() & {"include", "variant_defaults"}:
        assert f"| `{key}` |" in page or f"| `[{key}]` |" in page
        del read[key]
    used = list(keys_of(read))
    assert len(used) >= 3
    for section, key in used:
        assert f"| `{key}` |" in section_of(page, section), (section, key)
    if isinstance(read.get("model"), dict):
        model = page.split(f"### `{read['model']['name']}`\n", 1)[1].split("\n### ", 1)[0]
        for key in read["model"].keys() - {"name"}:
            assert f"| `{key}` |" in model, key


def test_every_key_of_a_recipe_says_what_it_means() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", recipe.page(), re.M)
    assert len(rows) > 100
    assert [key for key, meaning in rows if not meaning.strip()] == []


def test_every_section_and_model_of_a_recipe_is_in_the_reference() -> None:
    page = recipe.page()
    for name in ("data", "data.columns", "split", "history", "train", "publish", "language"):
        assert f"## `[{name}]`" in page
    assert all(f"### `{name}`" in page for name in MODELS)
    assert "`validate_users` | number above 0 to 1 | unset |" in page


def test_every_metric_of_a_service_is_in_the_reference() -> None:
    registry = CollectorRegistry()
    create_app(build_dependencies(Settings(), "redis://127.0.0.1:1", registry, time.time))
    suffix = {"counter": "_total"}
    exported = {family.name + suffix.get(family.type, "") for family in registry.collect()}
    listed = {family.name: family for family in metrics.metric_families()}
    assert len(exported) > 30
    assert exported - listed.keys() == set()
    assert all(family.text for family in listed.values())
    assert listed["absorb_requests_total"].labels == ("route", "method", "model", "code")
    assert listed["absorb_shadow_requests_total"].labels == ("model", "shadow", "result")


def test_every_route_is_in_the_reference() -> None:
    text = routes.page() + routes.v2_page()
    listed = list(routes.routes(routes.openapi_document()))
    assert len(listed) > 20
    for route in listed:
        assert f"## `{route.method} {route.path}`" in text
    assert "| `candidates` | list of string or integer or object | yes |" in text


def test_every_grpc_call_is_in_the_reference() -> None:
    # In a process of its own: Triton's client registers messages of the same names.
    code = (
        "from service.v2 import inference_pb2 as pb; "
        "print(*(call.name for call in pb.DESCRIPTOR.services_by_name['GRPCInferenceService'].methods))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert {name for name, _, _ in grpc_calls.calls()} == set(listed.stdout.split())


def test_every_command_and_option_is_in_the_reference() -> None:
    page = commands.page()
    assert len(commands.CATALOGUE) > 15
    for command in commands.CATALOGUE:
        words = f"absorb {command.name}"
        section = page.split(f"### `{words}`\n", 1)[1].split("\n## ", 1)[0]
        for shown in commands.walk(words, load(command)):
            for parameter in shown.command.params:
                if parameter.param_type_name == "option" and not parameter.hidden:
                    assert f"`{', '.join(parameter.opts)}`" in section or parameter.name == "help"
    assert all(f"`make {name}`" in page for name, _ in commands.make_targets())


# Decisions


def test_every_decision_is_in_the_index_and_has_its_form() -> None:
    folder = DOCS / "decisions"
    index = (folder / "README.md").read_text()
    paths = sorted(folder.rglob("2*.md"))
    assert len(paths) > 30
    for path in paths:
        lines = path.read_text().splitlines()
        assert f"({path.relative_to(folder).as_posix()})" in index, path.name
        assert lines[0].startswith("# ")
        assert lines[2].startswith(f"{path.name[:10]} · "), path.name


def test_every_result_is_in_the_index() -> None:
    folder = DOCS / "results"
    index = (folder / "README.md").read_text()
    for path in folder.rglob("*"):
        if path.parent != folder and path.suffix in (".md", ".png"):
            assert f"({path.relative_to(folder).as_posix()})" in index, path


# The site


class Assets(HTMLParser):
    """Collects what a page makes a browser load."""

    LOADED: ClassVar = {
        "script": "src",
        "img": "src",
        "iframe": "src",
        "link": "href",
        "source": "src",
    }

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value for name, value in attrs if name == self.LOADED.get(tag) and value]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    arguments = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_strictly_and_has_every_page_of_its_navigation(site: Path) -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    sections = [entry for section in config["nav"] for entry in next(iter(section.values()))]
    pages = [entry if isinstance(entry, str) else next(iter(entry.values())) for entry in sections]
    assert len(pages) > 25
    for page in pages:
        place = page.removesuffix(".md").removesuffix("README").removesuffix("index").rstrip("/")
        assert (site / place / "index.html").exists(), page


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    loaded = []
    for path in site.rglob("*.html"):
        parser = Assets()
        parser.feed(path.read_text())
        loaded += [(path.name, url) for url in parser.urls if re.match(r"(https?:)?//", url)]
    for path in site.rglob("*.css"):
        text = path.read_text()
        loaded += [
            (path.name, url) for url in re.findall(r"(?:@import|url\()\s*[\"']?(https?:)", text)
        ]
    assert loaded == []
    # The theme's script can fetch mermaid and a search shim; it does so only where a page has a diagram of it.
    assert not any('class="mermaid"' in path.read_text() for path in site.rglob("*.html"))


def test_a_generated_page_is_in_the_site(site: Path) -> None:
    assert "ABSORB_CACHE_URL" in (site / "reference" / "settings" / "index.html").read_text()
    measured = ROOT / "loadtest" / "results"
    for picture in measured.rglob("*.png"):
        assert (site / "results" / "load" / picture.relative_to(measured)).exists()

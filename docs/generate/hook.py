"""mkdocs hook: adds the generated pages, and files that lie outside docs/."""

import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from docs.generate import commands, grpc_calls, metrics, recipe, routes, settings, tree  # noqa: E402

PAGES: dict[str, Callable[[], str]] = {
    "reference/settings.md": settings.page,
    "reference/recipe.md": recipe.page,
    "reference/http.md": routes.page,
    "reference/v2.md": routes.v2_page,
    "reference/openapi.json": routes.document_text,
    "reference/grpc.md": grpc_calls.page,
    "reference/metrics.md": metrics.page,
    "reference/commands.md": commands.page,
    "contributing/tree.md": tree.page,
}
"""Generated file, below docs/ -> what makes it."""
ROOT_PAGES = {
    "CONTRIBUTING.md": "contributing/README.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files at the root -> where the site shows them."""
LOAD_RESULTS = ROOT / "loadtest" / "results"
LOAD_FOLDER = "results/load"
"""Where the site shows the load test's results."""
LINK = re.compile(r"(\]\()([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    for name, path in ROOT_PAGES.items():
        files.append(File.generated(config, path, content=moved(ROOT / name, path)))
    for source in sorted(LOAD_RESULTS.rglob("*")):
        if source.suffix in (".md", ".png"):
            path = f"{LOAD_FOLDER}/{source.relative_to(LOAD_RESULTS).as_posix()}"
            files.append(File.generated(config, path, abs_src_path=str(source)))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every decision and every table into the navigation."""
    docs = Path(config.docs_dir)
    sections = {name: pages for one in config.nav or [] for name, pages in one.items()}
    sections["Decisions"] += _newest_first(docs, "decisions")
    sections["Decisions"].append({"Lab log": _newest_first(docs, "decisions/lab")})
    tables = sorted(path for path in (docs / "results").glob("*/*.md"))
    sections["Results"] += [
        {path.parent.name: path.relative_to(docs).as_posix()} for path in tables
    ]
    return config


def _newest_first(docs: Path, folder: str) -> list[str]:
    paths = sorted((docs / folder).glob("2*.md"), reverse=True)
    return [path.relative_to(docs).as_posix() for path in paths]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files outside docs/ lead to where the site shows them; a number stays beside its interval."""
    source = page.file.abs_src_path
    markdown = markdown.replace(" ± ", "\u00a0±\u00a0")
    if source is None or not Path(source).is_relative_to(config.docs_dir):
        return markdown
    return relinked(markdown, Path(source), page.file.src_uri)


def moved(source: Path, path: str) -> str:
    """A file of the root, its links relative to its place in the site."""
    return relinked(source.read_text(), source, path)


def relinked(text: str, source: Path, path: str) -> str:
    """Markdown whose relative links are those of `source`, for a page at `path` below docs/."""

    def one(match: re.Match[str]) -> str:
        target = match.group(2)
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        shown = place_in_site((source.parent / target).resolve())
        return match.group() if shown is None else match.group(1) + relative(shown, path)

    return LINK.sub(one, text)


def place_in_site(target: Path) -> str | None:
    """Where the site shows a file of the repository, below docs/; None if it does not."""
    if target.is_relative_to(LOAD_RESULTS):
        return f"{LOAD_FOLDER}/{target.relative_to(LOAD_RESULTS).as_posix()}"
    if target.parent == ROOT:
        return ROOT_PAGES.get(target.name)
    if target.is_relative_to(ROOT / "docs"):
        return target.relative_to(ROOT / "docs").as_posix()
    return None


def relative(target: str, page: str) -> str:
    """The link from one place below docs/ to another."""
    return posixpath.relpath(target, posixpath.dirname(page) or ".")

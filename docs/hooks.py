"""What the site adds to `docs/`: the pages beside it, and tables made from the code.

Cards of environments and agents, CONTRIBUTING, CHANGELOG and the benchmarks are read where they are. Links
are written for the repository, as GitHub shows it, and are turned here into links of the site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "agents/*/README.md", "benchmarks/README.md", "envs/*/README.md")
FILES = ("agents/*/*.csv", "agents/*/*.yaml", "benchmarks/*.png", "envs/*/card.yaml", "envs/*/*.png")
MARKER = re.compile(r"^<!-- arguments of (\S+) -->$", re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that are not in `docs/`."""
    for pattern in PAGES + FILES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in the tables of arguments, and turn links of the repository into links of the site."""
    own = page.file.src_uri
    folder = posixpath.dirname(own if own in _pages() else f"docs/{own}")

    def turn(link: re.Match[str]) -> str:
        target, _, anchor = link[2].partition("#")
        if not target or ":" in target:
            return link[0]
        goal = posixpath.normpath(posixpath.join(folder, target)).removeprefix("docs/")
        relative = posixpath.relpath(goal, posixpath.dirname(own) or ".")
        return f"{link[1]}{relative}{f'#{anchor}' if anchor else ''}{link[3]}"

    return LINK.sub(turn, MARKER.sub(lambda found: _arguments(found[1]), markdown))


def _pages() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern)}


def _arguments(env_id: str) -> str:
    from usrl.registry import describe_arguments

    return describe_arguments(env_id)

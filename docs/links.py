"""``python docs/links.py docs/_build/html``: does every link of the built pages lead somewhere?

Pages, pictures and anchors are looked up in the folder; of addresses elsewhere the form alone is checked, offline.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ELSEWHERE = ("http", "https", "mailto")


class Links(HTMLParser):
    """What a page points to, and the anchors that others can point to."""

    def __init__(self, page: Path):
        super().__init__()
        self.targets: set[str] = set()
        self.anchors = {"", "top"}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.targets |= {found[name] for name in ("href", "src", "poster", "data-src") if name in found}
        self.targets |= {source.split()[0] for source in found.get("srcset", "").split(",") if source.strip()}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}


def dead_links(site: Path) -> list[str]:
    """``page: target (reason)`` of each link in a folder of HTML that leads nowhere."""
    site = site.resolve()
    pages = {page: Links(page) for page in sorted(site.rglob("*.html"))}
    if not pages:
        raise ValueError(f"no HTML page in {site}")
    found = []
    for page, links in pages.items():
        for target in sorted(links.targets):
            reason = what_is_wrong(target, page, site, pages)
            if reason:
                found.append(f"{page.relative_to(site).as_posix()}: {target} ({reason})")
    return found


def what_is_wrong(target: str, page: Path, site: Path, pages: dict[Path, Links]) -> str | None:
    try:
        parts = urlsplit(target)
    except ValueError as error:
        return str(error)
    if parts.scheme == "data":
        return None
    if parts.scheme or parts.netloc:
        return wrong_elsewhere(target)
    if target.startswith("/"):
        return "begins at the root, which is not this folder"
    path = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    if not path.is_relative_to(site):
        return "outside the pages"
    if not path.is_file():
        return "no such file"
    if path in pages and unquote(parts.fragment) not in pages[path].anchors:
        return "no such anchor"
    return None


def wrong_elsewhere(target: str) -> str | None:
    parts = urlsplit(target)
    if parts.scheme not in ELSEWHERE:
        return "neither a page nor an address of the web"
    if any(character.isspace() for character in target):
        return "a space in an address"
    host_needed = parts.scheme != "mailto"
    if host_needed and "." not in (parts.hostname or ""):
        return "no host"
    return None


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python docs/links.py FOLDER", file=sys.stderr)
        return 2
    try:
        dead = dead_links(Path(arguments[0]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(dead) or "Every link leads somewhere.", file=sys.stderr if dead else sys.stdout)
    return 1 if dead else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The pages of the root folder as pages of the site, and links that hold on a code host as well as on the site.

A page of `root_pages`, such as contributing.md, is a stub in docs/. The site shows the file of the root folder in its
place, and the stub's own tables of contents below it. A link to a file that is no page of the site leads to the
file's source. A link whose text is the name of a page has the page's title as its text. A link to a file that does not
exist is a warning. Sphinx itself looks at anchors.
"""

import os
import re
from pathlib import Path

from sphinx.util import logging

logger = logging.getLogger(__name__)

#: Code, which is left as it is, or a link or image from its text on, if that is a name, or from the end of its text on.
_LINK = re.compile(
    r"^(`{3,}|:{3,}).*?^\1|`[^`\n]*`|(?:(?<=\[)(?P<name>[\w./-]+\.md))?\]\((?P<target>[^()\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
_TOCTREE = re.compile(r"^```\{toctree\}\n.*?^```\n", re.MULTILINE | re.DOTALL)


def setup(app):
    app.add_config_value("root_pages", {}, "env")
    app.add_config_value("root_pages_end", {}, "env")
    app.add_config_value("listing_pages", [], "env")
    app.add_config_value("source_url", "", "env")
    app.connect("source-read", read)
    return {"parallel_read_safe": True}


def read(app, docname, source):
    """Put what the site shows for a page into source[0]."""
    docs = Path(app.srcdir)
    origin = docs / f"{docname}.md"
    text, own = source[0], source[0]
    if docname in app.config.root_pages:
        origin = docs.parent / app.config.root_pages[docname]
        app.env.note_dependency(str(origin))
        text = origin.read_text(encoding="utf-8")
        if docname in app.config.root_pages_end:
            text = text[: text.index(f"\n{app.config.root_pages_end[docname]}\n")]
    links = Links(app, docname, origin)
    text = _LINK.sub(links.replace, text)
    if origin.parent != docs and docname in app.config.root_pages:
        text += "\n\n" + "\n".join(_TOCTREE.findall(own))
    if docname in app.config.listing_pages:
        names = [name for name in re.findall(r"^\| \[[^]]+\]\(([\w-]+)\.md\)", text, re.MULTILINE)]
        text += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
    source[0] = text


class Links:
    """The links of one page, whose text is the file origin."""

    def __init__(self, app, docname, origin):
        self.docname = docname
        self.origin = origin
        self.docs = Path(app.srcdir)
        self.root = self.docs.parent
        self.url = app.config.source_url
        self.pages = {self.root / name: self.docs / f"{page}.md" for page, name in app.config.root_pages.items()}

    def replace(self, match):
        """Return the text of the match with a target that holds on the site."""
        target = match["target"]
        if target is None or re.match(r"[a-z]+:|#", target):
            return match[0]
        name = match["name"] or ""
        path, hash_sign, anchor = target.partition("#")
        file = Path(os.path.normpath(self.origin.parent / path))
        if not file.exists():
            logger.warning("no such file: %s", target, location=self.docname)
            return match[0]
        if self.docs in file.parents and (file / "README.md").is_file():
            file /= "README.md"
        file = self.pages.get(file, file)
        if self.docs in file.parents and file.suffix in (".md", ".svg", ".png"):
            target = os.path.relpath(file, (self.docs / self.docname).parent)
            if name:
                name = re.search(r"^# (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)[1]
        else:
            target = f"{self.url}/{'tree' if file.is_dir() else 'blob'}/main/{file.relative_to(self.root)}"
        return f"{name}]({target}{hash_sign}{anchor})"

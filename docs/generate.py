"""Pages that the code writes: a page a method, the papers item by item, errata, and the notebooks beside them."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
ENTRY = re.compile(r"(\w+(?:, \w+)*): ")  # of arguments in a docstring
SHOWN = {"keep_rate": "keep rate", "setting": "setting", "share": "FLOPs, of dense", "times_as_fast": "times as fast",
         "cosine": "centred cosine", "cosine_low": "from", "cosine_high": "to"}  # fmt: skip


def write(here: Path) -> None:
    """All pages, into ``here``/generated and ``here``/notebooks; what an earlier build wrote there goes."""
    for name in ("generated", "notebooks"):
        shutil.rmtree(here / name, ignore_errors=True)
    methods = here / "generated" / "methods"
    methods.mkdir(parents=True)
    for name, text in method_pages().items():
        (methods / f"{name}.md").write_text(text, encoding="utf-8")
    pages = {
        "methods.md": method_index(),
        "families.md": families(),
        "papers.md": papers(),
        "errata.md": errata(),
    }
    for name, text in pages.items():
        (here / "generated" / name).write_text(text, encoding="utf-8")
    (here / "notebooks").mkdir()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = with_badges(notebook, address())
        (here / "notebooks" / notebook.name).write_text(text, encoding="utf-8")


def address() -> str:
    """``owner/name`` on GitHub, of GitHub's own workflow or of pyproject.toml; nothing where neither knows."""
    from analysis.notebooks import repository

    return os.environ.get("GITHUB_REPOSITORY") or repository()


def with_badges(notebook: Path, repository: str) -> str:
    """The notebook, below its title what opens it on Colab and Binder, where its repository is known."""
    text = notebook.read_text(encoding="utf-8")
    if not repository:
        return text
    content = json.loads(text)
    title, *rest = content["cells"][0]["source"]
    content["cells"][0]["source"] = [
        title.rstrip("\n"),
        "\n\n",
        badges(repository, notebook.name),
        "\n",
        *rest,
    ]
    return json.dumps(content, ensure_ascii=False)


def badges(repository: str, notebook: str) -> str:
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{notebook}"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?labpath=notebooks%2F{notebook}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})\n"
    )


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    from analysis.formats import render

    return render(frame, "markdown", digits)


def method_pages() -> dict[str, str]:
    """Name → what the method does, the facts that its class states, its choices, and how it fares off the shelf."""
    from stvit.reduce import METHODS

    return {name: method_page(name) for name, kind in METHODS.items() if kind.about is not None}


def method_page(name: str) -> str:
    from analysis.shared import field
    from stvit.reduce import METHODS

    kind = METHODS[name]
    facts = {key: value for key, value in field.row(name).items() if key != "method"}
    parts = [
        f"# {field.label(name)}",
        "\n".join(arguments_as_list((inspect.getdoc(kind) or "").splitlines())),
        "## Facts",
        markdown(pd.DataFrame({"": facts.keys(), " ": facts.values()})),
        "## Use it",
        f'```python\nsparse = stvit.sparsify(model, method="{name}"{example_of(kind)})\n```',
        choices_of(kind),
    ]
    found = off_the_shelf(name)
    if len(found):
        parts += [
            "## In DINOv2-S, without training",
            "On crops of photographs, beside the dense model; intervals are 95 %, over photographs "
            "(`python -m analysis.offtheshelf`).",
            markdown(found),
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def arguments_as_list(lines: list[str]) -> list[str]:
    """Docstrings say ``name: what it is`` on lines of their own, with further lines indented: as a list."""
    told: list[str] = []
    for line in lines:
        entry = ENTRY.match(line)
        if entry:
            if told and told[-1] and not told[-1].startswith("- "):
                told.append("")
            told.append(f"- ``{entry[1]}``: {line[entry.end() :]}")
        elif told and told[-1].startswith("- ") and line.startswith("    "):
            told[-1] += " " + line.strip()
        else:
            told.append(line)
    return told


def example_of(kind: type) -> str:
    parameters = inspect.signature(kind.__init__).parameters
    default = next((name for name in ("keep_rate", "r", "num_tokens") if name in parameters), None)
    if default is None or parameters[default].default is inspect.Parameter.empty:
        return ""
    return f", {default}={parameters[default].default!r}"


def choices_of(kind: type) -> str:
    from stvit.models.reduced_vit import method_choices

    parameters = inspect.signature(kind.__init__).parameters
    names = [name for name in method_choices(kind) if name in parameters]
    said = [f"`{name}={parameters[name].default!r}`" for name in names]
    return f"Choices and their defaults: {', '.join(said)}." if said else "It has no choices."


def off_the_shelf(name: str) -> pd.DataFrame:
    path = RESULTS / "offtheshelf" / "table.csv"
    if not path.exists():
        return pd.DataFrame()
    table = pd.read_csv(path)
    rows = table[table.row == name].sort_values("keep_rate", ascending=False)
    return rows[list(SHOWN)].rename(columns=SHOWN)


def method_index() -> str:
    from analysis.shared import field

    names = list(method_pages())
    table = field.table()
    tree = "\n".join(f"methods/{name}" for name in names)
    return (
        "# Methods\n\nEvery method of `stvit.reduce`, by what its class states. STViT itself is "
        "`stvit.sparsify(model, tokens=16, at=5)`.\n\n"
        f"{markdown(table)}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )


def families() -> str:
    """Which method runs in which of timm's vision transformers."""
    from analysis.shared.families import table

    return (
        "# Model families\n\nWhich methods `stvit.sparsify` takes in which of timm's vision transformers, tried on a "
        "small model of each. Where a method runs, `tests/stvit/test_families.py` holds that it equals the dense model "
        "when it reduces nothing, that `stvit.densify` brings that model back to the bit, and that gradients pass. In "
        "models with rotary or relative positions a merged token lies at the mean of what it is made of.\n\n"
        f"{markdown(table())}\n"
    )


def papers() -> str:
    """Every numbered item of both papers."""
    from analysis import coverage

    table = coverage.table()
    table = table.assign(
        where=[place(one) for one in table["where"]], command=[f"`{one}`" for one in table.command]
    )
    parts = [
        f"## {paper}\n\n{markdown(rows.drop(columns='paper'))}"
        for paper, rows in table.groupby("paper", sort=False)
    ]
    return (
        "# The papers, item by item\n\nexact: the same number or formula; corrected: exact, once an erratum is mended; "
        "real model: from real weights, nothing trained from scratch; small models: trained here, on small data, not "
        "on ImageNet; printed: quoted alone.\n\n" + "\n\n".join(parts) + "\n"
    )


def place(path: str) -> str:
    """A file's path that may break behind its slashes, and leads to the file where the repository is known."""
    shown = f'<code class="docutils literal">{path.replace("/", "/<wbr>")}</code>'
    if not address():
        return shown
    return f'<a href="https://github.com/{address()}/blob/main/{path}">{shown}</a>'


def errata() -> str:
    from analysis import complexity

    formulas = complexity.compute("errata")
    formulas = formulas.assign(title=formulas.paper + ", " + formulas.place).rename(
        columns={"item": "id", "against": "corrected"}
    )
    proof = pd.read_csv(RESULTS / "cluster_sim" / "errata.csv")
    proof = proof.assign(title=proof["put to the test"]).rename(
        columns={"as printed": "printed", "as corrected": "corrected"}
    )
    return (
        "# Errata\n\nEach with its kind (error, inconsistency, convention, doubt), what is printed, what holds instead "
        "and the reason; each has a test. `python -m analysis.complexity --table errata` and "
        "`results/cluster_sim/errata.csv` have the numbers.\n\n"
        f"## FLOPs, formulas and tables\n\n{one_by_one(formulas)}\n\n## The proof of Theorem 1\n\n{one_by_one(proof)}\n"
    )


def one_by_one(frame: pd.DataFrame) -> str:
    """Errata as a list: their texts are too long for the columns of a table."""
    return "\n\n".join(
        f"**{row.id}, {row.kind}: {plain(row.title)}**\n\n- Printed: {plain(row.printed)}\n"
        f"- Instead: {plain(row.corrected)}\n- Why: {plain(row.why)}"
        for row in frame.itertuples()
    )


def plain(text: object) -> str:
    """A text in which no character is Markdown's."""
    return re.sub(r"([\\`*_{}\[\]<>|$#~])", r"\\\1", " ".join(str(text).split()))

"""The records of a study's cells: a file each while they come, and one file of lines, ``folded.jsonl``, for keeping.

Reading knows both; a file beside the lines is the newer record of its cell.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

from analysis.commands import write_text
from analysis.formats import dump

FOLDED = "folded.jsonl"


def read(folder: str | Path, address: str) -> dict | None:
    """The record of one cell, or None."""
    path = Path(folder) / f"{address}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return folded(Path(folder)).get(address)


def read_all(folder: str | Path) -> dict[str, dict]:
    """Address → record, in the order of the addresses."""
    loose = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.json")}
    return dict(sorted({**folded(Path(folder)), **loose}.items()))


def write(folder: str | Path, record: dict) -> None:
    """``record`` at its address, whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{record['address']}-{os.getpid()}"
    dump(record, scratch)
    os.replace(scratch, folder / f"{record['address']}.json")


def files(folder: str | Path) -> list[Path]:
    """What the folder's records are read from: the inputs of a report."""
    lines = Path(folder) / FOLDED
    return [*([lines] if lines.exists() else []), *sorted(Path(folder).glob("*.json"))]


def kept(folder: str | Path, out: Path | None) -> list[Path]:
    """The inputs of a report, folded where it is the shipped one, which has no ``out`` of its own."""
    return files(folder) if out else fold(folder)


def fold(folder: str | Path) -> list[Path]:
    """Put all records of the folder into its one file of lines; returns ``files`` afterwards."""
    folder = Path(folder)
    loose = sorted(folder.glob("*.json"))
    if loose:
        lines = [
            json.dumps(record, sort_keys=True, ensure_ascii=False) for record in read_all(folder).values()
        ]
        scratch = folder / f".{FOLDED}-{os.getpid()}"
        write_text("\n".join(lines) + "\n", scratch)
        os.replace(scratch, folder / FOLDED)
        for path in loose:
            path.unlink()
    return files(folder)


def folded(folder: Path) -> dict[str, dict]:
    path = folder / FOLDED
    if not path.exists():
        return {}
    facts = path.stat()
    return parsed(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)
def parsed(path: Path, changed: int, size: int) -> dict[str, dict]:
    """Address → record; ``changed`` and ``size`` tell when to read again."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            found[record["address"]] = record
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not the record of a cell ({error})") from None
    return found

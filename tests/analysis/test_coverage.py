"""The coverage table names every numbered item of both papers once, and no place or command that is not there."""

import argparse
import importlib
import shlex
from pathlib import Path

import pytest

from analysis import coverage

ROOT = Path(__file__).resolve().parents[2]
TABLE = coverage.table()


def test_every_item_once():
    expected = [
        (paper, f"{kind} {number}")
        for paper, kinds in coverage.ITEMS.items()
        for kind, count in kinds.items()
        for number in range(1, count + 1)
    ]
    assert sorted(zip(TABLE.paper, TABLE["item"], strict=True)) == sorted(expected)
    assert TABLE.notna().all(axis=None)


@pytest.mark.parametrize("where", sorted(set(TABLE["where"])))
def test_places_exist(where):
    assert (ROOT / where).is_file()


@pytest.mark.parametrize("line", sorted(set(TABLE.command)))
def test_commands_are_understood(line, monkeypatch):
    _, _, module, *arguments = shlex.split(line)
    try:
        command = importlib.import_module(f"{module}.__main__")
    except ModuleNotFoundError:
        command = importlib.import_module(module)
    read, seen = argparse.ArgumentParser.parse_args, []

    def parse(parser, *args, **kwargs):
        read(parser, *args, **kwargs)
        seen.append(parser.prog)
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(KeyboardInterrupt):
        command.main(arguments)
    assert seen == [f"python -m {module}"]


def test_command(capsys):
    assert coverage.main(["--csv"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "paper,item,what,fidelity,where,command" and "Theorem 1" in printed

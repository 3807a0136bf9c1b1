"""Records are the same whether they lie in files of their own or in one file of lines."""

from __future__ import annotations

import json

import pytest

from analysis.shared import records

FOUND = [{"address": f"{number:012x}", "top1": 80 + number, "name": "größer"} for number in (2, 0, 1)]


@pytest.fixture
def folder(tmp_path):
    for record in FOUND:
        records.write(tmp_path / "cells", record)
    return tmp_path / "cells"


def test_folding_keeps_every_record_and_removes_its_file(folder):
    before = records.read_all(folder)
    assert list(before) == sorted(record["address"] for record in FOUND)
    assert records.fold(folder) == [folder / records.FOLDED]
    assert [path.name for path in folder.iterdir()] == [records.FOLDED]
    assert records.read_all(folder) == before
    assert records.read(folder, FOUND[0]["address"]) == FOUND[0]
    assert records.read(folder, "elsewhere") is None


def test_folding_twice_changes_no_byte(folder):
    content = records.fold(folder)[0].read_bytes()
    assert records.fold(folder)[0].read_bytes() == content
    records.write(folder, FOUND[1])
    assert records.fold(folder)[0].read_bytes() == content


def test_a_file_beside_the_lines_is_the_newer_record(folder):
    records.fold(folder)
    newer = FOUND[1] | {"top1": 99}
    records.write(folder, newer)
    assert len(records.files(folder)) == 2
    assert records.read(folder, newer["address"]) == records.read_all(folder)[newer["address"]] == newer
    records.fold(folder)
    assert records.read(folder, newer["address"]) == newer and len(records.read_all(folder)) == len(FOUND)


def test_a_report_elsewhere_leaves_the_files(folder, tmp_path):
    assert len(records.kept(folder, tmp_path / "out")) == len(FOUND)
    assert len(records.kept(folder, None)) == 1


def test_no_folder_no_records(tmp_path):
    assert records.read_all(tmp_path / "none") == {} and records.fold(tmp_path / "none") == []


@pytest.mark.parametrize("line", ["{", json.dumps({"top1": 1}), "[]"])
def test_a_broken_line_is_named(folder, line):
    path = records.fold(folder)[0]
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=f"{records.FOLDED}, line {len(FOUND) + 1}: not the record of a cell"
    ):
        records.read_all(folder)

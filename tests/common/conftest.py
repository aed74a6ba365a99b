"""Cells made by hand (cell_fixture.py), shared by the tests that only look at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import common.datasets.set_layout
import common.declarations.spec
from common.draw import draw_cell
from common.job import Cell
from common.proof import prove
from tests.common.cell_fixture import make_cell, make_chip


@pytest.fixture(scope="session", autouse=True)
def own_verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is known about image sets from earlier checks is the tests' own, and not the checkout's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.datasets.set_layout, "VERDICTS", tmp_path_factory.mktemp("verdicts"))
        yield


@pytest.fixture(scope="session")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vendors/ folder with testchip."""
    folder = tmp_path_factory.mktemp("chips") / "vendors"
    make_chip(folder)
    return folder


@pytest.fixture
def test_chip(vendors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vendors/ holds testchip and nothing else."""
    monkeypatch.setattr(common.declarations.spec, "VENDORS_FOLDER", vendors)


@pytest.fixture(scope="session")
def made_cells(vendors: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with finished cells: toy_pose fp32 (equal to float) and int8 (too noisy: AP falls), and
    lost_pose int8 with random weights. Look, do not touch.
    """
    root = tmp_path_factory.mktemp("cells")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.declarations.spec, "VENDORS_FOLDER", vendors)
        for variant, noise, model, weights in (
            ("fp32", 0.0, "toy_pose", "published"),
            ("int8", 0.12, "toy_pose", "published"),
            ("int8", 0.03, "lost_pose", "random"),
        ):
            cell = Cell(make_cell(root, variant, noise, model, weights))
            draw_cell(cell)
            prove(cell)
    yield root


@pytest.fixture(scope="session")
def whole_cells(vendors: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with finished cells of networks that see whole photographs: bottomup_pose and detection, each
    as fp32 (equal to float) and int8 (with noise). Look, do not touch.
    """
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.declarations.spec, "VENDORS_FOLDER", vendors)
        for task, noise in (("bottomup_pose", 0.03), ("detection", 0.3)):
            for variant in ("fp32", "int8"):
                cell = Cell(make_cell(root, variant, noise if variant == "int8" else 0.0, model=task, task=task))
                draw_cell(cell)
                prove(cell)
    yield root

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sample_builders import disk, noise, write
from typer.testing import CliRunner

from usrl.cli import app
from usrl.data.catalogue import export_split, load_cases, load_split, load_train_and_val
from usrl.data.recipe import DataRecipe
from usrl.data.splits import read_parts
from usrl.errors import UserError
from usrl.strict import check

SPLITS = Path(__file__).resolve().parents[2] / "splits"


@pytest.fixture
def root(tmp_path):
    """Twelve images of six patients."""
    rows = ["name,group"]
    for number in range(12):
        name = f"case-{number:02d}"
        write(tmp_path / "set" / "images" / f"{name}.png", noise(number))
        write(tmp_path / "set" / "masks" / f"{name}.png", disk().astype(np.uint8) * 255)
        rows.append(f"{name},patient-{number // 2}")
    (tmp_path / "set" / "groups.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "set"


@pytest.fixture
def table(root, tmp_path):
    export_split(DataRecipe(name="folder", root=root, split_seed=3), tmp_path / "splits.csv")
    return tmp_path / "splits.csv"


def names(root, part, **fields):
    return [sample.name for sample in load_split("folder", part, root=str(root), **fields)]


def test_a_table_has_name_group_part_and_hash_of_every_image(root, table):
    lines = [line.split(",") for line in table.read_text().splitlines()]
    assert lines[0] == ["name", "group", "part", "sha256"]
    assert len(lines) == 13
    assert [line[0] for line in lines[1:] if line[2] == "test"] == names(root, "test", split_seed=3)
    assert lines[4] == ["case-03", "patient-1", lines[4][2], hashlib.sha256(noise(3).tobytes()).hexdigest()]


def test_a_table_replaces_the_drawn_parts_whatever_the_seed_and_the_file_format(root, table):
    parts = {part: names(root, part, split_seed=3) for part in ("train", "val", "test")}
    assert parts["test"] != names(root, "test", split_seed=0)
    write(root / "images" / "case-00.tif", noise(0))
    (root / "images" / "case-00.png").unlink()
    for part, expected in parts.items():
        assert names(root, part, split_file=str(table)) == expected
    assert len(names(root, "train", split_file=str(table), labels=0.5)) < len(parts["train"])


def test_a_training_takes_its_parts_from_the_table_and_writes_them_into_its_run(root, table, tmp_path):
    data = DataRecipe(name="folder", root=root, split_file=table)
    train, val = load_train_and_val(data, tmp_path / "split.tsv")
    assert [sample.name for sample in train] == names(root, "train", split_seed=3)
    assert [sample.name for sample in val] == names(root, "val", split_seed=3)
    stated = {line.split(",")[0]: line.split(",")[2] for line in table.read_text().splitlines()[1:]}
    assert read_parts(tmp_path / "split.tsv") == stated


def test_images_that_are_missing_strange_or_changed_are_refused_by_name(root, table):
    text = table.read_text()
    table.write_text(text + f"case-99,p,test,{'0' * 64}\n")
    with pytest.raises(UserError, match=r"names 1 images that are not there: case-99"):
        names(root, "test", split_file=str(table))
    table.write_text("\n".join(line for line in text.splitlines() if "case-05" not in line))
    with pytest.raises(UserError, match=r"does not name 1 images: case-05"):
        names(root, "test", split_file=str(table))
    table.write_text(text)
    write(root / "images" / "case-07.png", noise(99))
    with pytest.raises(UserError, match=r"1 images have other pixels than those of the split: case-07"):
        names(root, "test", split_file=str(table))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name,group,part,sha256", "name,part", "header must be name,group,part,sha256"),
        ("case-01,", "case-00,", "must give a new name, got 'case-00'"),
        (",train,", ",training,", "unknown part 'training'; did you mean 'train'"),
        (",test,", ",test,x", "must be 64 hexadecimal digits"),
    ],
)
def test_a_table_that_is_no_split_is_refused(root, table, old, new, message):
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        names(root, "test", split_file=str(table))


def test_a_group_in_two_parts_is_told_and_a_part_may_be_empty_until_it_is_asked_for(root, table):
    lines = [line.split(",") for line in table.read_text().splitlines()]
    for number, line in enumerate(lines[1:]):
        line[2] = "train" if number % 2 else "test"
    table.write_text("\n".join(map(",".join, lines)))
    with pytest.warns(UserWarning, match="6 groups are in several parts: patient-0, "):
        assert len(names(root, "test", split_file=str(table))) == 6
    with (
        pytest.warns(UserWarning, match="in several parts"),
        pytest.raises(UserError, match="gives no image to 'val'"),
    ):
        names(root, "val", split_file=str(table))


def test_the_command_line_exports_a_split_and_scores_by_it(root, tmp_path):
    out = tmp_path / "s.csv"
    call = ["splits", "export", "folder", "--root", str(root), "--split-seed", "3", "--out", str(out)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "8 train, 2 val, 2 test" in done.output
    assert CliRunner().invoke(app, call).exit_code == 2  # nothing is replaced
    which = ["--data", "folder", "--root", str(root), "--split-file", str(out)]
    scored = CliRunner().invoke(app, ["compare", "otsu", *which, "--out", str(tmp_path / "report")])
    assert scored.exit_code == 0, scored.output
    cases = (tmp_path / "report" / "cases.csv").read_text()
    assert all(name in cases for name in names(root, "test", split_seed=3))
    with pytest.raises(UserError, match="leave it out"):
        load_cases(DataRecipe(name="lung", count=2, split_file=str(out)), "all")


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["busi", "hc18", "ddti", "usgra"])
@pytest.mark.filterwarnings("ignore:ddti")
def test_the_shipped_table_of_a_data_set_is_its_split(request, name, tmp_path):
    root, shipped = request.getfixturevalue(f"real_{name}"), SPLITS / f"{name}.csv"
    export_split(DataRecipe(name=name, root=root), tmp_path / "new.csv")
    written = (tmp_path / "new.csv").read_text()
    if written.count("\n") != shipped.read_text().count("\n"):
        pytest.skip(f"{root} is another copy than that of {shipped}")
    assert written == shipped.read_text()


def test_folds_and_a_table_of_parts_exclude_each_other():
    with pytest.raises(UserError, match="folds divide the images anew, and split_file states their parts"):
        check(DataRecipe, {"folds": 2, "fold": 1, "split_file": "parts.csv"}, "recipe")

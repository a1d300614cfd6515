"""The command that serves the page."""

import sys

import cv2
import pytest
from typer.testing import CliRunner

from usrl.cli import app


def annotate(*words, status=2):
    """Return what the command line says of a mistake."""
    result = CliRunner().invoke(app, ["annotate", *map(str, words)])
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.fixture
def scans(make_images):
    return make_images(1)


def test_mistakes_are_told_before_anything_is_served(scans, tmp_path):
    out = ("--out", tmp_path / "labels", "--device", "cpu")
    assert "did you mean 'contour-ppo'" in annotate(scans, "--method", "contour-pp", *out)
    assert "--spacing-mm wants ROW,COLUMN" in annotate(scans, "--method", "pull", *out, "--spacing-mm", "x")
    assert "is not a folder" in annotate(tmp_path / "absent", "--method", "pull", *out)
    assert "is not a folder" in annotate(scans, "--method", "pull", *out, "--masks", tmp_path / "absent")
    assert "holds the images themselves" in annotate(scans, "--method", "pull", "--out", scans)
    assert "cannot learn" in annotate(scans, "--method", "pull", *out, "--learn")
    assert "needs boxes itself" in annotate(scans, "--method", "pull", *out, "--network", "otsu-box")
    assert "cannot listen on 203.0.113.7" in annotate(
        scans, "--method", "otsu-box", *out, "--host", "203.0.113.7"
    )
    assert not list((tmp_path / "labels").rglob("*.png"))


def test_what_is_missing_is_named_with_the_command_that_installs_it(scans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    told = annotate(scans, "--method", "pull", "--out", tmp_path / "labels")
    assert 'run `pip install "usrl[page]"`' in told


def test_all_that_the_command_was_given_reaches_the_page(scans, tmp_path, monkeypatch):
    from usrl.page import server

    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "scan 0.png"), cv2.imread(str(scans / "scan 0.png"), 0) // 128)
    served = []
    build = server.build_app
    monkeypatch.setattr(
        server, "build_app", lambda desk, token, host: served.append(desk) or build(desk, token, host)
    )
    monkeypatch.setattr(server, "serve", lambda app, own: served.append(own.getsockname()))
    options = (
        "--structure",
        "nerve",
        "--structure",
        "vessel",
        "--network",
        "otsu",
        "--spacing-mm",
        "0.2,0.1",
    )
    words = (
        scans,
        "--method",
        "otsu-box",
        "--out",
        tmp_path / "labels",
        "--masks",
        tmp_path / "masks",
        *options,
    )
    result = CliRunner().invoke(app, ["annotate", *map(str, words)])
    assert result.exit_code == 0, result.output
    desk, address = served
    assert address[0] == "127.0.0.1"
    assert f"1 images; open http://127.0.0.1:{address[1]}/" in result.output
    view = desk.view("scan 0")
    assert (list(view["works"]), view["unit"]) == (["nerve", "vessel"], "mm")
    assert view["origins"] == ["network", "existing"]
    assert desk.describe()["method"]["name"] == "otsu-box"

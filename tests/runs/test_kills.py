"""What kills, second writers and full disks leave behind, and that work goes on after them."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from usrl.ablation.pipeline import AblationCall, run_ablation
from usrl.cli import app
from usrl.errors import UserError
from usrl.files import locked, write_atomically, writing_to
from usrl.learners import train_folder
from usrl.runs.recipes import dump_yaml, parse_recipe
from usrl.runs.run import Run, create_run
from usrl.tuning.trials import tune

CPU = torch.device("cpu")
TREE = {
    "kind": "network",
    "data": {"size": 32, "count": 20},
    "channels": [4, 8],
    "residual_units": 0,
    "epochs": 2,
    "batch_size": 4,
}
RECIPE = parse_recipe(TREE, "tiny")
SEARCH = parse_recipe(TREE | {"search": {"learning_rate": {"low": 1e-3, "high": 1e-2}}}, "tiny")
LEFTOVERS = (".recipe.yaml.ab12cd34", ".checkpoint.safetensors.x_9z", ".log.jsonl.abcd")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(dump_yaml(TREE))
    (tmp_path / "ablation.yaml").write_text(
        dump_yaml({"groups": {"augment": {"none": {"augment.flip": False}}}, "seeds": [0]})
    )
    return tmp_path


def _train(out: Path) -> None:
    train_folder(RECIPE, out, CPU, resume=True)


def _tune(out: Path) -> None:
    tune(SEARCH, out, 1, CPU, resume=True)


@contextmanager
def _held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a folder."""
    script = f"from pathlib import Path; from usrl.files import locked; c = locked(Path({str(folder)!r}));"
    script += "c.__enter__(); print('held', flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("command", [_train, _tune])
def test_a_second_writer_is_refused_until_the_first_ends_even_by_a_kill(
    tmp_path: Path, command: Callable[[Path], None]
) -> None:
    with _held(tmp_path / "out") as process:
        with pytest.raises(UserError, match=r"out: another process is writing here; wait until it ends"):
            command(tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())
        process.kill()
        process.wait()
        command(tmp_path / "out")


def test_a_second_ablation_of_a_folder_is_refused(plan: Path, tmp_path: Path) -> None:
    with (
        _held(tmp_path / "out"),
        pytest.raises(UserError, match=r"out: another process is writing here"),
    ):
        run_ablation(AblationCall(plan, tmp_path / "out", "cpu"))


@pytest.mark.parametrize("command", [_train, _tune])
def test_temporary_files_of_a_kill_block_nothing_and_are_removed(
    tmp_path: Path, command: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in LEFTOVERS:
        (out / name).write_text("cut")
    command(out)
    assert not list(out.rglob(".*"))


def test_a_trial_that_was_killed_at_its_first_file_is_tried_again(tmp_path: Path) -> None:
    folder = create_run(tmp_path / "out", SEARCH).path / "trials" / "000"
    folder.mkdir(parents=True)
    (folder / LEFTOVERS[0]).write_text("cut")
    assert tune(SEARCH, tmp_path / "out", 1, CPU, resume=True)[0].failure is None


def test_files_of_others_are_kept_and_still_block_a_new_run(tmp_path: Path) -> None:
    for name in (".recipe.yaml.swp", ".notes.txt.abcd1234", ".hidden"):
        (tmp_path / name).touch()
        with pytest.raises(UserError, match="already holds something"):
            _train(tmp_path)
        (tmp_path / name).unlink()


def test_a_run_that_was_killed_before_its_versions_goes_on(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", RECIPE)
    (run.path / "versions.json").unlink()
    _train(run.path)
    assert run.read_versions()["python"]
    assert run.is_finished()


@pytest.mark.parametrize("step", ["versions.json", "recipe.yaml"])
def test_a_training_that_is_killed_at_its_first_files_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def write(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        if path.name == step:
            raise KeyboardInterrupt

    monkeypatch.setattr("usrl.runs.run.write_atomically", write)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "run")
    monkeypatch.undo()
    train_folder(RECIPE, tmp_path / "run", CPU)
    assert Run(tmp_path / "run", RECIPE).is_finished()


def test_an_ablation_repairs_a_run_without_versions_before_it_trains(plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_ablation(AblationCall(plan, out, "cpu"))
    for path in out.rglob("versions.json"):
        path.unlink()
    assert "python" in run_ablation(AblationCall(plan, out, "cpu")).read_text()


def test_workers_of_an_ablation_end_with_their_parent(plan: Path, tmp_path: Path) -> None:
    recipe = TREE | {"epochs": 100_000}
    (plan / "recipe.yaml").write_text(dump_yaml(recipe))
    command = [sys.executable, "-m", "usrl", "ablate", str(plan), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "--jobs", "2", "--device", "cpu"], stderr=subprocess.DEVNULL)
    logs = [tmp_path / "out" / name / "0" / "log.jsonl" for name in ("base", "augment/none")]
    _wait(lambda: all(log.is_file() for log in logs))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Their locks end with them.
    for log in logs:
        _wait(lambda folder=log.parent: _is_free(folder))  # type: ignore[misc]


def _is_free(folder: Path) -> bool:
    try:
        with locked(folder):
            return True
    except UserError:
        return False


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not until():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_files_follow_the_umask(tmp_path: Path) -> None:
    for mask, mode in ((0o077, 0o600), (0o022, 0o644), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            write_atomically(tmp_path / "mask.png", b"x")
        finally:
            os.umask(before)
        assert (tmp_path / "mask.png").stat().st_mode & 0o777 == mode


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 3 kB, which is what a full disk does to large ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("full_disk")
def test_a_training_on_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights\.safetensors: cannot write here \(File too large\)"):
        _train(tmp_path / "run")


@pytest.mark.usefixtures("full_disk")
def test_a_search_on_a_full_disk_stops_and_records_no_failure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights\.safetensors: cannot write here \(File too large\)"):
        _tune(tmp_path / "out")
    assert '"failure": null' in (tmp_path / "out" / "trials" / "000" / "trial.json").read_text()


@pytest.mark.usefixtures("full_disk")
def test_the_phantom_on_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "phantom", "--count", "1", "--out", str(tmp_path / "p")])
    assert result.exit_code == 2
    assert f"{tmp_path / 'p'}: cannot write here (File too large)" in result.stderr


def test_a_file_that_cannot_be_read_is_not_said_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing_to(tmp_path / "out"):
        (tmp_path / "elsewhere" / "image.png").read_bytes()

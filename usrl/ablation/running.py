"""Training and scoring the runs of an ablation, several at once."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from threading import Thread
from typing import TypeVar

import cv2
import torch
import typer

from usrl.ablation.plan import SEED, Training, Variant
from usrl.compute.devices import select_device
from usrl.data.prompts import jittered_boxes
from usrl.data.sample import Sample
from usrl.errors import UserError
from usrl.evaluation.compare import score_lesions
from usrl.evaluation.methods import open_segmenter
from usrl.evaluation.statistics.summary import Case
from usrl.learners import train_folder
from usrl.progress import show_progress

T = TypeVar("T")


def train_all(trainings: Sequence[Training], device: str, jobs: int) -> None:
    """Train what is not finished yet; each training begins when its start, which comes before it, has ended.

    One job trains in this process. Several jobs train in processes of one thread each, whose progress bars
    and warnings go to ``<seed>.txt`` next to the run's folder.

    Raises:
        UserError: If a training fails; names variant and seed. Those that run at the same time end first.
    """
    waiting = [training for training in trainings if not training.run.is_finished()]
    if finished := len(trainings) - len(waiting):
        typer.echo(f"{finished} of {len(trainings)} runs are trained already", err=True)
    began = time.monotonic()
    for done, (training, seconds) in enumerate(_each(partial(_train, device), waiting, jobs), start=1):
        left = (time.monotonic() - began) / done * (len(waiting) - done) / 60
        told = f"{training.variant}, seed {training.seed}, in {seconds:.0f} s; about {left:.0f} min left"
        typer.echo(f"trained {done} of {len(waiting)}: {told}", err=True)


def score_all(
    variants: Sequence[Variant], lesions: Sequence[Sample], device: str, jobs: int
) -> dict[tuple[Path, int], list[Case]]:
    """Return the cases of finished runs by folder and number of starts, on images with a lesion.

    They are scored as in `usrl.evaluation.compare.compare`, once for each number of starts.
    """
    cases: dict[tuple[Path, int], list[Case]] = {}
    for starts in dict.fromkeys(variant.starts for variant in variants):
        own = [variant for variant in variants if variant.starts == starts]
        trainings = {training.path: training for variant in own for training in variant.trainings}
        work = partial(_score, device, lesions, starts)
        scored = _each(work, list(trainings.values()), jobs)
        cases |= {(training.path, starts): found for training, found in scored}
    return cases


def _train(device: str, training: Training) -> float:
    run = training.run
    if not run.weights_path.is_file():
        # The checkpoint of a training that had ended would write no weights again.
        run.checkpoint_path.unlink(missing_ok=True)
        run.log_path.unlink(missing_ok=True)
    train_folder(training.recipe, training.path, select_device(device), resume=True)
    return run.read_log()[-1]["seconds"]


def _score(device: str, lesions: Sequence[Sample], starts: int, training: Training) -> list[Case]:
    methods = {training.variant: open_segmenter(training.path, device, starts)}
    prompts = {sample.name: jittered_boxes(sample, seed=SEED) for sample in lesions}
    with show_progress(len(lesions)) as progress:
        return score_lesions(methods, lesions, prompts, progress)


def _each(
    work: Callable[[Training], T], trainings: Sequence[Training], jobs: int
) -> Iterator[tuple[Training, T]]:
    """Yield every training with the result of the work on it, as it ends."""
    if jobs == 1:
        yield from ((training, _name_failure(training, partial(work, training))) for training in trainings)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_worker)
    waiting, running = list(trainings), dict[Future[T], Training]()
    try:
        while waiting or running:
            # The pool gets only what can run at once: nobody can call its queue back.
            unfinished = {training.path for training in [*waiting, *running.values()]}
            ready = [t for t in waiting if t.start is None or t.start.path not in unfinished]
            for training in ready[: jobs - len(running)]:
                waiting.remove(training)
                running[pool.submit(_work_quietly, work, training)] = training
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                training = running.pop(future)
                yield training, _name_failure(training, future.result)
    finally:
        pool.shutdown(cancel_futures=True)


def _name_failure(training: Training, result: Callable[[], T]) -> T:
    try:
        return result()
    except UserError as error:
        told = str(error)
    except BrokenProcessPool:
        told = "its process was ended from outside, perhaps for want of memory; lower --jobs"
    raise UserError(f"{training.variant}, seed {training.seed}: {told}")


def _work_quietly(work: Callable[[Training], T], training: Training) -> T:
    """Work in a process of the pool: what it would show goes to a file, and errors become messages."""
    path = training.path.with_name(f"{training.path.name}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, redirect_stderr(file):
        try:
            return work(training)
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise UserError(f"{type(error).__name__}: {error}; {path} has the traceback") from None


def _begin_worker() -> None:
    """Compute with one thread, and end with the parent, however that ends."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()

"""`spf fit` under SLURM and under signals: real processes, a real signal, a make-believe scontrol."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from spf.miniature.shards import paint_portraits
from spf.stages.interruption import EXIT_CODE
from tests.house import ROOT

PATIENCE = 500  # seconds until a start counts as hung
SLURM = {"SLURM_JOB_ID": "4321", "SLURM_JOB_NAME": "spf", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1",
         "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost",
         "SPF_REQUEUE": "1"}


class Job:
    """`spf fit` on a run directory that takes longer than any test waits."""

    def __init__(self, folder: Path, base: Path, source: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        settings = {"run": self.run, "model.base": base, "data.source": source, "data.resolution": 64,
                    "data.train_batch_size": 2, "data.num_workers": 1, "trainer.max_epochs": -1,
                    "trainer.max_steps": 10_000, "trainer.accelerator": "cpu", "trainer.precision": 32,
                    "trainer.enable_progress_bar": "false", "trainer.accumulate_grad_batches": 2,
                    "samples.every_n_steps": 0}
        self.command = [sys.executable, "-m", "spf", "fit", "-c", "experiments/sd15/stage1.yaml"]
        self.command += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
        scontrol = folder / "bin" / "scontrol"
        scontrol.parent.mkdir()
        scontrol.write_text(f"#!/bin/sh\necho $* >> {folder}/scontrol.txt\n")
        scontrol.chmod(0o755)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(folder / "datasets"),
                            "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}

    def interrupt(self, number: int, *arguments: str, whole_group: bool, **environment: str) -> tuple[int, str]:
        """Start, signal as soon as a batch has been learnt from, and return the exit status and what was said."""
        log = self.folder / f"log_{number}.txt"
        with log.open("w") as file:
            process = subprocess.Popen([*self.command, *arguments], cwd=ROOT, env=self.environment | environment,
                                       stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            until = time.monotonic() + PATIENCE
            while "starts" not in log.read_text():  # the last line of the header: signals are awaited
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.01)
            (os.killpg if whole_group else os.kill)(process.pid, number)
            return process.wait(PATIENCE), log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def step(self) -> int:
        return torch.load(self.run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.fixture
def job(tiny_sd15: Path, tmp_path: Path) -> Job:
    return Job(tmp_path, tiny_sd15, paint_portraits(tmp_path / "portraits", 8, resolution=64))


def test_a_job_saves_requeues_itself_and_goes_on_in_the_same_directory(job: Job) -> None:
    status, said = job.interrupt(signal.SIGUSR1, whole_group=True, **SLURM)
    assert status == EXIT_CODE and "job 4321 is queued again" in said, said
    assert (job.folder / "scontrol.txt").read_text() == "requeue 4321\n"
    assert not list(job.run.rglob("hpc_ckpt*")), "Lightning's own handler has acted"
    first = job.step()
    assert first >= 1
    # two processes, of which only the first is told to end
    status, said = job.interrupt(signal.SIGTERM, "--trainer.devices", "2", "--trainer.strategy", "ddp",
                                 whole_group=False)
    assert status == EXIT_CODE and f"resuming from {job.run}/checkpoints/last.ckpt" in said, said
    assert f"at step {first}, resumed" in said and job.step() > first
    assert (job.folder / "scontrol.txt").read_text() == "requeue 4321\n"
    assert not list(job.run.glob("version_*")) and len(list(job.run.glob("events.out.tfevents*"))) == 2

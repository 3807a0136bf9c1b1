"""``python -m stvit.train``: one loop for a CPU, a GPU, many GPUs and many machines.

python -m stvit.train --data scenes --model micro_stvit --epochs 2
python -m stvit.train --data fashion_mnist --model micro_stvit     (found, or downloaded; cifar10 and others alike)
python -m stvit.train --task segment --data scenes --model micro_stvit_r_swin
python -m stvit.train --base deit_small_patch16_224 --method bat --keep-rate 0.7 --data path/to/photographs
python -m stvit.train --recipe deit --model stvit_deit_small_patch16_224 --data path/to/imagenet
torchrun --nproc-per-node 8 -m stvit.train --recipe deit --precision bf16 ...   (the same, on 8 GPUs)

--base fine-tunes a pretrained model of timm, or a checkpoint's folder, with fewer tokens if --method is given.
A run that was stopped in any way resumes by the same command and loses at most one epoch. Every epoch begins
from a seed of its own, so that on a CPU a resumed run ends in the weights of an unbroken one. After each epoch
the folder holds the model so far, with its card: stvit.load_checkpoint("runs/train/model").
--track tensorboard logs loss and scores for TensorBoard too (pip install 'stvit[track]'), --track wandb for W&B.
"""

# ruff: noqa: E402 (what is missing is told first)
from __future__ import annotations

from stvit.extras import need

need("train", "training")

import json
import math
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from stvit.checkpoints.saving import clear_scratch, plain
from stvit.command import run_command
from stvit.data.share import Share
from stvit.reduce import keep_rate_at
from stvit.training import build, card, state, track
from stvit.training.bfloat16 import fast_products
from stvit.training.config import TrainConfig, from_command_line
from stvit.training.journal import Journal
from stvit.training.lock import FolderLock
from stvit.training.tasks import LABELS, Task, check_options, create_task

BAD = "not_finite.pt"
QUIET = 30  # seconds without a progress bar after which a line says how far an epoch is


class NotFinite(RuntimeError):
    """The loss is NaN or infinite; the message says at which step and where the batch lies."""


class Trainer:
    """What a training holds; ``run`` is the loop. ``task``: the one that ``config`` names, if it is not given."""

    def __init__(self, config: TrainConfig, task: Task | None = None):
        check_options(config)
        self.config, self.out = config, Path(config.out)
        self.task = task or create_task(config.task)
        if config.threads:
            torch.set_num_threads(config.threads)
        AcceleratorState._reset_state()  # of an earlier training in this process, in another precision perhaps
        self.accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=config.precision,
            log_with=track.trackers(config) or None,
            project_dir=config.out,
        )
        self.main, self.device = self.accelerator.is_main_process, self.accelerator.device
        self.rank = self.accelerator.process_index
        self.lock = open_folder(self.out) if self.main else None
        try:
            self.prepare(config)
        except BaseException:
            self.close()
            raise

    def prepare(self, config: TrainConfig) -> None:
        """Open the data, build what is trained, and restore the state of a run that is there."""
        saved = state.read(self.out, config)  # what does not fit stops the run before the data is read

        share = Share(self.rank, self.accelerator.num_processes)
        self.source = self.task.open_source(config, share)
        if self.source.steps < 1:
            raise ValueError(
                f"the training images fill not one batch of {config.batch_size}; choose a smaller --batch-size"
            )
        model = self.task.build_model(config, self.source).to(self.device)
        if share.processes > 1 and self.device.type == "cuda":
            model = convert_sync_batchnorm(model)  # the statistics of the whole batch, as in one process
        optimizer = build.build_optimizer(config, model)
        self.schedule = build.build_schedule(config, optimizer, self.source.steps)
        self.criterion = self.task.criterion(config, self.source, model, self.device)
        self.ema = ModelEmaV3(model, decay=config.ema_decay) if config.ema_decay else None
        self.plain, self.bare = model, optimizer
        self.epoch, self.step, self.loss = 0, 0, math.nan
        self.seconds, self.cpu_seconds = 0.0, 0.0  # of all epochs, those before a stop too
        if saved:
            state.check_classes(saved, self.source.class_names, self.out)
            self.restore(saved)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.journal = Journal(self.out, self.epoch, enabled=self.main)
        track.begin(self.accelerator, config)

    def run(self) -> dict:
        """Train to the last epoch; returns the last line of the journal that has the task's score."""
        scores = self.journal.last(self.task.headline)  # of a run that had ended already
        if self.epoch == self.config.epochs:
            self.export(scores)  # it may have been killed before
        while self.epoch < self.config.epochs:
            begun, cpu = time.perf_counter(), time.process_time()
            self.begin_epoch()
            self.train_epoch()
            self.epoch += 1
            self.seconds += time.perf_counter() - begun
            self.cpu_seconds += time.process_time() - cpu
            if self.epoch % self.config.eval_every == 0 or self.epoch == self.config.epochs:
                scores = self.evaluate()
            elif self.main:
                tqdm.write(f"epoch {self.epoch}: loss {self.loss:.4f}")
            self.save()
            self.export(scores)
        self.journal.draw(self.task.headline)
        return scores

    def begin_epoch(self) -> None:
        seed = self.config.seed * 1_000_003 + self.epoch * 1_009 + self.rank
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        if self.config.keep_rate:
            schedule = self.config.keep_rate_start, self.config.keep_rate_epochs
            self.plain.set_keep_rate(keep_rate_at(self.epoch, self.config.keep_rate, *schedule))

    def train_epoch(self) -> None:
        self.model.train()
        batches = self.source.train(self.epoch)
        bar = tqdm(
            batches, f"epoch {self.epoch + 1}/{self.config.epochs}", self.source.steps,
            leave=False, disable=None if self.main else True,
        )  # fmt: skip
        total, epoch_total = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        since, count, told = 0, 0, time.monotonic()
        for images, targets in bar:
            loss = self.train_step(*send_to_device((images, targets), self.device))
            total, since = total + loss, since + 1
            epoch_total, count = epoch_total + loss, count + 1
            if self.main and bar.disable and time.monotonic() - told > QUIET:
                told = time.monotonic()
                done = f"epoch {self.epoch + 1}/{self.config.epochs}, step {count}/{self.source.steps}"
                tqdm.write(f"{done}: loss {float(epoch_total) / count:.4f}")
            if self.step % self.config.log_every == 0 or self.step % self.source.steps == 0:
                mean = float(self.accelerator.reduce(total, "mean")) / since
                rate = self.bare.param_groups[0]["lr"]
                self.journal.write(epoch=self.epoch, step=self.step, loss=mean, lr=rate)
                track.write(self.accelerator, self.step, loss=mean, lr=rate)
                bar.set_postfix(loss=f"{mean:.3f}")
                total, since = torch.zeros_like(total), 0
        self.loss = float(self.accelerator.reduce(epoch_total, "mean")) / max(count, 1)

    def train_step(self, images: Any, targets: Any) -> Tensor:
        self.schedule.step_update(self.step)
        with self.autocast():
            loss = self.criterion(self.model, images, targets)
        if not loss.isfinite():
            self.stop(images, targets, loss)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.config.clip_grad:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.optimizer.step()
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.plain, self.step)
        return loss.detach()

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The precision of forwards."""
        with self.accelerator.autocast(), fast_products(self.device.type, self.config.precision):
            yield

    def stop(self, images: Any, targets: Any, loss: Tensor) -> None:
        """Save what made the loss infinite: the batch and the weights that met it."""
        path = self.out / (BAD if self.main else f"rank{self.rank}-{BAD}")
        images, targets = send_to_device((images, targets), "cpu")
        content = {
            "epoch": self.epoch, "step": self.step, "loss": float(loss.detach()),
            "images": images, "targets": targets, "model": self.plain.state_dict(),
        }  # fmt: skip
        state.write(content, path)
        raise NotFinite(
            f"the loss is {float(loss.detach())} in epoch {self.epoch + 1} at step {self.step}; the batch and the "
            f"weights are in {path}. A lower --lr, --clip-grad or --precision bf16 may help"
        )

    def evaluate(self) -> dict:
        model = self.plain if self.ema is None else self.ema.module
        with self.autocast():
            scores = self.task.evaluate(model, self.source, self.device)
        loss = {"held_out_loss": scores.pop("loss")} if "loss" in scores else {}
        spent = {"seconds": round(self.seconds, 2), "cpu_seconds": round(self.cpu_seconds, 2)}
        line = {**scores, "epoch": self.epoch - 1, **loss, **spent}
        self.journal.write(**line)
        track.write(self.accelerator, self.step, **{k: v for k, v in line.items() if k != "epoch"})
        if self.main:
            losses = "".join(f", held-out loss {value:.4f}" for value in loss.values())
            tqdm.write(
                f"epoch {self.epoch}: loss {self.loss:.4f}{losses}, {headline(self.task.headline, line)}"
            )
        return line

    def save(self) -> None:
        """Everything the next epoch needs; random states are not among it (see ``begin_epoch``)."""
        if self.main:
            state.write(
                {
                    "config": self.config.identity(), "epoch": self.epoch, "step": self.step,
                    "seconds": self.seconds, "cpu_seconds": self.cpu_seconds,
                    "class_names": list(self.source.class_names),
                    "model": self.plain.state_dict(),
                    "optimizer": self.bare.state_dict(),
                    "ema": None if self.ema is None else self.ema.module.state_dict(),
                },
                self.out / state.STATE,
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    def restore(self, saved: dict) -> None:
        self.epoch, self.step, self.seconds = saved["epoch"], saved["step"], saved["seconds"]
        self.cpu_seconds = saved.get("cpu_seconds", 0.0)  # which older states do not have
        self.plain.load_state_dict(saved["model"])
        self.bare.load_state_dict(saved["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(saved["ema"])
        if self.main:
            tqdm.write(f"{self.out} resumes after epoch {self.epoch} of {self.config.epochs}")

    def close(self) -> None:
        """Let others use the folder and end the process group."""
        if self.lock is not None:
            self.lock.release()
        self.accelerator.end_training()

    def export(self, scores: dict) -> None:
        """The model as ``stvit.load_checkpoint`` and timm read it, with what made it."""
        if self.main:
            model: nn.Module = self.plain if self.ema is None else self.ema.module
            record = {
                "config": self.config.identity(),
                "device": str(self.device),
                "epochs": self.epoch,
                **scores,
            }
            self.task.export(model, self.out / "model", record)
            card.write(self.out / "model", self.config, model, {**record, "epochs": self.epoch})
        self.accelerator.wait_for_everyone()


def open_folder(out: Path) -> FolderLock:
    """The run's folder, for this process alone, without what a killed run was writing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(out)
    except OSError as error:
        raise ValueError(f"cannot write to {out}: {error.strerror}") from error
    clear_scratch(out)
    return lock


def headline(name: str, scores: dict) -> str:
    half = f" ± {scores[f'{name}_half']:.2f}" if f"{name}_half" in scores else ""
    return f"{LABELS.get(name, name)} {scores[name]:.2f}{half} %"


def train(config: TrainConfig, task: Task | None = None) -> dict:
    """Train, or resume a training, and return the last scores."""
    trainer = Trainer(config, task)
    try:
        return trainer.run()
    finally:
        trainer.close()


def main(argv: list[str] | None = None) -> int:
    config = from_command_line(argv, prog="python -m stvit.train", description=__doc__)

    def command() -> None:
        print(json.dumps(plain({"out": config.out, **train(config)})))

    return run_command(command, status=1, debug=config.debug, stream=sys.stdout)


if __name__ == "__main__":
    raise SystemExit(main())

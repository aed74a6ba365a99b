"""Train hrnet_tiny from nothing on rendered people: `python -m models.hrnet_tiny.train [--minutes 45]`.

Everything counts towards the budget, the rendering too. A run that was interrupted goes on where it stopped
(out/train); weights/hrnet_tiny.pth is written whole, every few minutes and at the end. Each core trains in a process of
its own and gradients are averaged at every step: OpenMP's threads gain little on so small a network (measured: 84
images a second from one thread, 121 from two), and they crawl when another program wants a core.
"""

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import distributed, nn
from tqdm import tqdm

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import replacing
from common.declarations.keypoints import KEYPOINT_SETS
from common.declarations.spec import ModelSpec, load_model
from common.decoding.heatmaps import decode_people
from common.metrics.oks import oks
from common.preprocessing.preprocess import box_to_center_scale, clip_ground_truth_box
from models.arch import build
from models.arch.blocks import initialize
from models.hrnet_tiny.dataset import Crops, render_corpus

HELD_OUT = 300  # people to validate on
BATCH = 24  # people in each process
PEAK_RATE, WEIGHT_DECAY, WARM_UP = 2.5e-3, 0.02, 200  # AdamW; the warm-up is in steps
AVERAGE = 0.998  # decay of the moving average of the weights, which is what is saved
REPORT_SECONDS, FIRST_SAVE_SECONDS, SAVE_SECONDS = 120, 60, 300
PATIENCE = timedelta(minutes=5)  # to wait for another process, longer than a validation by far
OKS_THRESHOLDS = np.arange(0.5, 0.96, 0.05)  # COCO's


def batches(crops: Crops, rng: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless augmented batches: inputs [B,3,H,W], targets [B,17,h,w], weights [B,17], all float32."""
    while True:
        order = rng.permutation(len(crops))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            people = [crops.person(int(index), rng) for index in order[start : start + BATCH]]
            targets = [crops.targets(keypoints) for _, keypoints in people]
            arrays = [p[0] for p in people], [t[0] for t in targets], [t[1] for t in targets]
            yield tuple(torch.from_numpy(np.stack(array)) for array in arrays)


def validate(network: nn.Module, crops: Crops, spec: ModelSpec, most: int = HELD_OUT) -> tuple[float, float]:
    """(share of people found, averaged over COCO's OKS thresholds; mean OKS) on crops as at run time, decoded as there.

    The first is COCO's AR for one prediction a person, and close to its AP with ground-truth boxes.
    """
    keypoint_set = KEYPOINT_SETS[spec.decode.keypoints]
    similarities = []
    network.eval()
    for start in range(0, min(len(crops), most), BATCH):
        indices = range(start, min(start + BATCH, len(crops), most))
        inputs = torch.from_numpy(np.stack([crops.person(i)[0] for i in indices]))
        with torch.no_grad():
            heatmaps = network(inputs).numpy()
        placed = []
        for index in indices:
            height, width = crops.image(index).shape[:2]
            box = clip_ground_truth_box(crops.arrays["boxes"][index], width, height)
            placed.append(box_to_center_scale(box, crops.width / crops.height, crops.padding))
        centers, scales = (np.stack(values) for values in zip(*placed, strict=True))
        people = decode_people(heatmaps, centers, scales, spec.decode.refine)
        truth = crops.arrays["keypoints"][list(indices)]
        similarity, _ = oks(people, truth, crops.arrays["areas"][list(indices)], keypoint_set.sigmas, truth[..., 2] > 0)
        similarities.append(similarity)
    values = np.concatenate(similarities)
    return float((values[:, None] > OKS_THRESHOLDS).mean()), float(values.mean())


def learning_rate(step: int, progress: float) -> float:
    """A linear warm-up over WARM_UP steps, then a cosine to a hundredth; progress is the share of the budget used."""
    cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP) * cosine


@torch.no_grad()
def average(target: nn.Module, source: nn.Module, decay: float) -> None:
    """Move the averaged weights, and the statistics of BatchNorm with them, towards the trained ones."""
    old, new = target.state_dict(), source.state_dict()
    names = [name for name, value in old.items() if value.is_floating_point()]
    torch._foreach_lerp_([old[name] for name in names], [new[name] for name in names], 1 - decay)


class Training:
    """The state of a run: network, its average, optimiser, steps and seconds spent; kept in checkpoint.pth."""

    def __init__(self, spec: ModelSpec, folder: Path, weights: Path, seed: int):
        self.spec, self.weights, self.checkpoint = spec, weights, folder / "checkpoint.pth"
        self.network = build(spec.name)
        initialize(self.network, seed)
        # Channels last is 1.1 to 1.3 times as fast on CPUs (measured); it does not change the saved weights.
        self.network = self.network.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, foreach=True)
        self.step, self.seconds = 0, 0.0

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one that fits."""
        if not self.checkpoint.exists():
            return False
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            for name in ("network", "averaged", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.step, self.seconds = state["step"], state["seconds"]
        except Exception as error:
            # torch raises almost anything for a damaged file or one of another architecture.
            raise UserError(
                f"{self.checkpoint} does not fit: {error}", f"remove {self.checkpoint} to start anew"
            ) from None
        return True

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each whole or not at all."""
        state = {name: getattr(self, name).state_dict() for name in ("network", "averaged", "optimizer")}
        with replacing(self.checkpoint) as temporary:
            torch.save({**state, "step": self.step, "seconds": self.seconds}, temporary)
        plain = {name: value.contiguous() for name, value in self.averaged.state_dict().items()}
        with replacing(self.weights) as temporary:
            torch.save(plain, temporary)

    def learn(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], budget: float) -> float:
        """One step of AdamW on the weighted squared error of heatmaps; returns this process's loss."""
        inputs, targets, weights = batch
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.seconds / budget)
        self.network.train()
        heatmaps = self.network(inputs.to(memory_format=torch.channels_last))
        error = ((heatmaps - targets) ** 2).mean(dim=(2, 3))
        loss = (error * weights).sum() / weights.sum().clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        # Early on, an average over 500 steps would be mostly the random start.
        average(self.averaged, self.network, min(AVERAGE, self.step / (self.step + 10)))
        return loss.item()

    def _share_gradients(self) -> None:
        """Average the gradients over all processes, and take the clock of process 0, which all must stop by."""
        gradients = [parameter.grad for parameter in self.network.parameters()]
        clock = torch.tensor([self.seconds if distributed.get_rank() == 0 else 0.0])
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), clock])
        distributed.all_reduce(flat)
        self.seconds = flat[-1].item()
        pieces = (flat[:-1] / distributed.get_world_size()).split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))


def train(training: Training, crops: Crops, held_out: Crops, budget: float, started: float) -> None:
    """Train until `budget` seconds are used, counted from `started` (time.monotonic) and from earlier runs."""
    rank, earlier, smooth = distributed.get_rank(), training.seconds, 0.0
    saved = reported = time.monotonic()
    first_step, save_after = training.step, FIRST_SAVE_SECONDS if training.step == 0 else SAVE_SECONDS
    quiet = True if rank else None
    with tqdm(total=round(budget), initial=round(earlier), unit="s", desc="train", disable=quiet) as bar:
        for batch in batches(crops, np.random.default_rng([2**16, training.step, rank])):
            if training.seconds >= budget:
                break
            training.seconds = earlier + time.monotonic() - started
            loss = training.learn(batch, budget)
            if rank:
                continue
            now = time.monotonic()
            smooth = loss if not smooth else 0.98 * smooth + 0.02 * loss
            bar.update(round(training.seconds) - bar.n)
            if now - reported > REPORT_SECONDS:
                reported = now
                found, mean = validate(training.averaged, held_out, training.spec)
                images = (training.step - first_step) * BATCH * distributed.get_world_size()
                tqdm.write(
                    f"step {training.step}: loss {smooth:.5f}, held-out AR {found:.3f}, mean OKS {mean:.3f}, "
                    f"{images / (now - started):.0f} images/s in all, {(budget - training.seconds) / 60:.1f} min left",
                    file=sys.stderr,
                )
            if now - saved > save_after:
                saved, save_after = now, SAVE_SECONDS
                training.save()


def work(rank: int, meeting: str, arguments: argparse.Namespace, started: float) -> None:
    """One process of the training; process 0 reports, validates and saves."""
    if rank:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # process 0 answers Ctrl-C, and takes the others with it
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=arguments.processes, timeout=PATIENCE
    )
    spec = load_model("hrnet_tiny")
    weights = arguments.weights or Path("models") / spec.name / "weights" / spec.weights.file
    training = Training(spec, arguments.folder, weights, arguments.seed)
    if training.resume() and rank == 0:
        print(f"going on at step {training.step}, {training.seconds / 60:.1f} minutes spent", file=sys.stderr)
    crops, held_out = (
        Crops(arguments.folder / purpose, spec.input, spec.decode.padding) for purpose in ("training", "validation")
    )
    train(training, crops, held_out, 60 * arguments.minutes, started)
    if rank == 0:
        training.save()
        found, mean = validate(training.averaged, held_out, spec)
        print(f"held-out AR {found:.3f}, mean OKS {mean:.3f} after {training.step} steps, {training.seconds:.0f} s")
        print(f"written: {weights} ({weights.stat().st_size} bytes)")
    distributed.destroy_process_group()


def main() -> int:
    """Render what is missing, train within the budget, print what the held-out people say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=45, help="budget, rendering included (default 45)")
    parser.add_argument("--people", type=int, default=7000, help="rendered people to train on (default 7000)")
    parser.add_argument("--processes", type=int, default=2, help="as many as there are cores (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("out/train"), help="corpora and checkpoint")
    parser.add_argument("--weights", type=Path, help="default: models/hrnet_tiny/weights/hrnet_tiny.pth")
    arguments = parser.parse_args()
    if arguments.minutes <= 0 or arguments.people < BATCH or arguments.processes < 1:
        raise UserError(f"--minutes and --processes must be positive, --people at least {BATCH}", exit_code=USAGE_EXIT)
    started = time.monotonic()
    for purpose, people in (("training", arguments.people), ("validation", HELD_OUT)):
        render_corpus(arguments.folder / purpose, purpose, arguments.seed, people, arguments.processes)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        others = [
            spawn.Process(target=work, args=(rank, meeting, arguments, started), daemon=True)
            for rank in range(1, arguments.processes)
        ]
        for process in others:
            process.start()
        work(0, meeting, arguments, started)
        for process in others:
            process.join()
    return 0


if __name__ == "__main__":
    run(main)

"""Tries what `fit` has no flag for: cpu94's training as a bare loop, with switches, on the validation split.

    python -m benchmarks prototype "without the easy third" --seeds 4 --options.prune 0.33
    python -m benchmarks prototype "without the easy third" --verdict "not kept: 0.3 points less"

The pieces are cpu94's own: its images and augmentation, its net, Muon and test-time augmentation, in bf16. What helps
is built into `fit` and tried again there, with `python -m benchmarks trials`. `results/trials.json` keeps both.
The test set is left alone.
"""

import copy
import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import conditions
from benchmarks.recipes import interval, require_commit
from benchmarks.trials import OUTPUT, keep
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.data.loader import TensorLoader
from cifar_lightning.data.sampler import epoch_order
from cifar_lightning.data.transforms import Augmentation
from cifar_lightning.nets.speed_net import SpeedNet, _convolution, _normalisation
from cifar_lightning.nets.tta import TTA, averaged_logits
from cifar_lightning.optim.muon import MuonSGD
from cifar_lightning.runs.settings import without_folders
from cifar_lightning.training.trainer import products_as_exact_as

VALIDATION_IMAGES = 5000
BELOW = (0.6, 0.7, 0.8, 1.0)  # images of which the net is less sure are looked at again; cpu94's is 0.6
SCORES = ("val_accuracy", "val_loss", "val_accuracy_tta")  # the loss differs less from seed to seed


@dataclass(frozen=True)
class Options:
    """cpu94's settings, and the switches."""

    epochs: float = 8.0
    batch_size: int = 500
    widths: str = "64,256,256"
    firsts: str = ""  # widths of each group's first convolution, where they are others
    activation: str = "GELU"
    depth: int = 2
    residual: bool = False
    pool_first: str = ""  # groups, counted from 1, that pool before their first convolution and not after it
    lr: float = 0.12
    momentum: float = 0.6
    dense_lr: float = 335.0
    vector_lr: float = 26.5
    weight_decay: float = 0.001
    label_smoothing: float = 0.2
    crop_padding: int = 2
    cutout: int = 0
    newton_schulz: int = 3
    sizes: str = ""  # of the images in the first epochs
    lr_end: float = 0.0  # the rate's share that is left at the end
    freeze: float = 1.0  # share of the steps after which the first group learns no more
    prune: float = 0.0  # share of the images left out of an epoch: those whose last loss was the lowest
    prune_from: int = 3  # the first epoch that leaves any out, counted from 0
    whole_last: int = 1  # last epochs with all images
    rescale: bool = False  # instead leave out at random among those below the mean loss, and scale up the rest of them
    ema: float = 0.0  # decay of an average of the weights over the last 40% of the steps, which is scored; 0: none


def train(data: CIFAR10DataModule, options: Options, seed: int, limit: int | None = None) -> dict[str, Any]:
    """Trains once; returns `val_accuracy`, `val_loss`, `val_accuracy_tta`, `train_s`, `train_flop` and `steps`.

    Args:
        data: set up for 'fit'.
        options: what is tried.
        seed: of weights and order.
        limit: steps of an epoch at most; for tests.
    """
    torch.manual_seed(seed)
    images, labels = data.images_of("train")
    augmentation = Augmentation(flip="alternating", crop_padding=options.crop_padding, cutout=options.cutout)
    loader = TensorLoader(
        images, labels, batch_size=options.batch_size, shuffle=True, seed=seed, augmentation=augmentation
    )
    widths = [int(width) for width in options.widths.split(",")]
    net = SpeedNet(
        widths, options.depth, options.residual, whitening_bias=False, activation=options.activation  # type: ignore[arg-type]
    ).to(memory_format=torch.channels_last)  # fmt: skip
    for group_number, first in enumerate(options.firsts.split(",") if options.firsts else (), start=1):
        narrowed: Any = net.layers.get_submodule(f"group{group_number}")
        narrowed.first[0] = _convolution(narrowed.first[0].in_channels, int(first), True)
        narrowed.first[2] = _normalisation(int(first))
        narrowed.rest[0] = _convolution(int(first), narrowed.rest[0].out_channels, True)
        net.to(memory_format=torch.channels_last)
    for number in options.pool_first.split(",") if options.pool_first else ():
        group: Any = net.layers.get_submodule(f"group{number}")
        convolution, pool, *rest = group.first
        group.first = torch.nn.Sequential(pool, convolution, *rest)
    optimizer = MuonSGD(
        net.parameters(), options.lr, options.momentum, dense_lr=options.dense_lr, vector_lr=options.vector_lr,
        weight_decay=options.weight_decay, steps=options.newton_schulz,
    )  # fmt: skip
    rates = [group["lr"] for group in optimizer.param_groups]
    sides = [int(side) for side in options.sizes.split(",") if side]
    epochs = math.ceil(options.epochs)
    sides += [32] * (epochs - len(sides))
    per_epoch = [_images(options, epoch, epochs, len(labels)) // options.batch_size for epoch in range(epochs)]
    per_epoch = [min(steps, limit or steps) for steps in per_epoch]
    total, step, flop = sum(per_epoch), 0, 0.0
    losses = torch.full((len(labels),), 9.0)  # of each image when it was last seen
    average: list[Tensor] = []
    flop_of: dict[tuple[int, bool], float] = {}
    began = time.perf_counter()
    for epoch, (steps, side) in enumerate(zip(per_epoch, sides, strict=True)):
        order = epoch_order(len(labels), seed, epoch)
        weights = torch.ones(len(labels))
        if steps * options.batch_size <= len(labels) - options.batch_size and options.prune:
            order, weights = _kept(options, order, losses, steps * options.batch_size)
        draws = loader._draw(epoch)
        for batch in range(steps):
            chosen = order[batch * options.batch_size : (batch + 1) * options.batch_size]
            shown, targets = loader._prepare(chosen, draws, side)
            if step == 0:
                net.start_from_images(shown)
            if step == int(options.freeze * total):
                for parameter in net.layers.get_submodule("group1").parameters():
                    parameter.requires_grad_(False)
                    parameter.grad = None
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - (1 - options.lr_end) * step / total)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(shown)
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=options.label_smoothing, reduction="none")
            losses[chosen] = loss.detach()
            optimizer.zero_grad()
            (loss * weights[chosen]).mean().backward()
            optimizer.step()
            key = (side, step >= int(options.freeze * total))
            if key not in flop_of:
                flop_of[key] = _flop(net, options.batch_size, side)
            flop, step = flop + flop_of[key], step + 1
            if options.ema and step > 0.6 * total:
                current = [parameter.detach() for parameter in net.parameters()]
                average = average or [parameter.clone() for parameter in current]
                torch._foreach_lerp_(average, current, 1 - options.ema)
    train_s = time.perf_counter() - began
    if average:
        torch._foreach_copy_([parameter.detach() for parameter in net.parameters()], average)
    accuracy, val_loss = _scores(net, data, TTA())
    by_below = {str(below): _scores(net, data, TTA("flip_translate", below))[0] for below in BELOW}
    return {
        "seed": seed, "val_accuracy": accuracy, "val_loss": val_loss, "val_accuracy_tta": by_below["0.6"],
        "val_accuracy_tta_below": by_below, "train_s": train_s, "train_flop": flop, "steps": step,
    }  # fmt: skip


def _images(options: Options, epoch: int, epochs: int, available: int) -> int:
    """How many an epoch shows; the last one may be a part."""
    is_whole = epoch < options.prune_from or epoch >= epochs - options.whole_last
    share = 1.0 if is_whole else 1 - options.prune
    return int(available * share * (options.epochs - epoch if epoch == epochs - 1 else 1.0))


def _kept(options: Options, order: Tensor, losses: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The images of an epoch in its order, and the weight of each image's loss."""
    weights = torch.ones(len(losses))
    if not options.rescale:
        is_kept = torch.zeros(len(losses), dtype=torch.bool)
        is_kept[losses.topk(number).indices] = True
        return order[is_kept[order]], weights
    is_easy = losses[order] < losses.mean()  # `order` is a random one, so that its first are a random choice
    easy, hard = order[is_easy], order[~is_easy]
    wanted = max(0, number - len(hard))
    weights[easy] = len(easy) / max(1, wanted)
    is_kept = torch.zeros(len(losses), dtype=torch.bool)
    is_kept[torch.cat([hard, easy[:wanted]])] = True
    return order[is_kept[order]], weights


def _flop(net: SpeedNet, batch_size: int, side: int) -> float:
    """Operations of a step, by torch's counter; parts that do not learn have no backward pass."""
    on_meta = copy.deepcopy(net).to("meta")
    images = torch.empty(batch_size, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(on_meta(images), torch.empty(batch_size, dtype=torch.int64, device="meta")).backward()
    return float(counter.get_total_flops())


@torch.no_grad()
def _scores(net: SpeedNet, data: CIFAR10DataModule, views: TTA) -> tuple[float, float]:
    """Accuracy and cross-entropy of the validation images."""
    images, labels = data.images_of("val")
    loader, hits = TensorLoader(images, labels, batch_size=500, shuffle=False), 0
    loss = 0.0
    net.eval()

    def logits_of(shown: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return net(shown).float()

    for shown, targets in loader:
        logits = averaged_logits(logits_of, shown, views)
        hits += int((logits.argmax(dim=1) == targets).sum())
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
    return hits / len(labels), loss / len(labels)


def main(argv: list[str]) -> int:
    """Tries, or notes a verdict; writes and prints."""
    parser = jsonargparse.ArgumentParser("python -m benchmarks prototype", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the try")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--verdict", type=str | None, help="kept or not, and why: only noted")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_class_arguments(Options, "options")
    arguments = parser.parse_args(argv)
    recipe = "cpu94, prototype"
    if arguments.verdict is not None:
        keep(recipe, arguments.name, None, arguments.verdict, arguments.output, parser)
        return 0
    require_commit()
    options = Options(**vars(arguments.options))
    data = CIFAR10DataModule(val_size=VALIDATION_IMAGES, source="official")
    data.prepare_data()
    data.setup("fit")
    about = conditions("cpu") | {"precision": "bf16-mixed", "options": asdict(options)}
    runs: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        with products_as_exact_as("bf16-mixed"):
            runs.append(train(data, options, seed))
        print(runs[-1], flush=True)
        scores = {name: [run[name] for run in runs] for name in SCORES}
        entry = about | {
            "n": len(runs),
            # One run has no interval: enough to leave a try that is clearly worse.
            **{name: interval(seen) if len(seen) > 1 else {"mean": seen[0]} for name, seen in scores.items()},
            "median_train_s": statistics.median(run["train_s"] for run in runs),
            "train_flop": runs[0]["train_flop"], "runs": runs,
        }  # fmt: skip
        keep(recipe, arguments.name, without_folders(entry), None, arguments.output, parser)
    return 0

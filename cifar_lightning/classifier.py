"""Classifier: the LightningModule. Loss, metrics per split and optimisation around any net."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import LRSchedulerConfigType, LRSchedulerTypeUnion, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from cifar_lightning import distributed
from cifar_lightning.errors import ConfigError, did_you_mean
from cifar_lightning.metrics import SplitMetrics
from cifar_lightning.nets.tta import TTA, averaged_logits
from cifar_lightning.optim.parameters import grouped
from cifar_lightning.optim.schedules import ProgressLR

Batch = tuple[Tensor, Tensor]  # images (B, 3, 32, 32), labels (B,) or, of mixed images, shares of the classes (B, C)


@runtime_checkable
class StartsFromImages(Protocol):
    """A net that computes some of its values from training images before its first step."""

    def start_from_images(self, images: Tensor) -> None:
        """Takes normalised images (N, 3, 32, 32)."""
        ...


class Classifier(LightningModule):
    """Trains `net` with cross entropy and counts loss and accuracy per split.

    Args:
        net: maps images (N, 3, 32, 32) to logits (N, C).
        optimizer: makes the optimizer from the net's parameters.
        scheduler: makes a learning rate scheduler from the optimizer; None keeps the rate. Ours (`TriangularLR`,
            `CosineLR`) span the whole training, whatever its length.
        scheduler_interval: whether one of torch's schedulers steps after each epoch or after each batch. OneCycleLR and
            CyclicLR, which count batches, always do the latter.
        input_size: height and width that images are enlarged to on their way into the net.
        freeze: names of parts that do not train, such as `[layer1, layer4.0]`. They run as in evaluation.
        head_lr: another rate for the last dense layer or convolution.
        decay_vectors: whether the weight decay is meant for biases and norms too.
        channels_last: lay weights and activations out channels_last, the faster layout.
        compile: run the net through torch.compile: it takes its time first, and on a CPU needs a C++ compiler.
        label_smoothing: share of the target that is spread over all classes in the training's loss, from 0 to below 1
            (Szegedy et al., arXiv 1512.00567); evaluation uses the plain cross entropy.
        tta: test-time augmentation for a second evaluation of the final weights, beside the plain one.

    Raises ValueError: a value is out of range, or `freeze` names no part of the net, or leaves nothing to train.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        input_size: int | None = None,
        freeze: list[str] | None = None,
        head_lr: float | None = None,
        decay_vectors: bool = True,
        channels_last: bool = True,
        compile: bool = False,
        label_smoothing: float = 0.0,
        tta: TTA = TTA(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"model.label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        if head_lr is not None and head_lr < 0:
            raise ValueError(f"model.head_lr must be at least 0, got {head_lr}")
        if input_size is not None:
            if input_size < 1:
                raise ValueError(f"model.input_size must be at least 1, got {input_size}")
            size = (input_size, input_size)
            net.register_forward_pre_hook(lambda _, inputs: F.interpolate(inputs[0], size, mode="bilinear"))
        self.frozen = [_part(net, name).requires_grad_(False) for name in freeze or []]
        if freeze and not any(parameter.requires_grad for parameter in net.parameters()):
            raise ValueError("model.freeze leaves nothing to train")
        self.head_lr, self.decay_vectors = head_lr, decay_vectors
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.train_metrics, self.val_metrics, self.test_metrics = SplitMetrics(), SplitMetrics(), SplitMetrics()
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.label_smoothing = label_smoothing
        self.tta = TTA(**tta) if isinstance(tta, dict) else tta  # as a checkpoint holds it
        self.max_steps: int | None = None  # of the whole training, where it is limited by steps
        self.evaluation_tta: TTA | None = None  # views averaged in the next evaluation; `evaluate.score` sets it
        self.validated: dict[str, float] = {}  # this epoch's last validation, also one from before a resume
        self.compiles, self._is_compiled = compile, False
        self.lr: float | None = None  # in place of the optimizer's: what Lightning's LearningRateFinder found
        self.logs = True  # to the Trainer's loggers and bar; `fit` has curves of its own
        self._random: dict[str, Any] | None = None  # of a checkpoint, until the training goes on
        plain = {
            "scheduler_interval": scheduler_interval, "input_size": input_size, "freeze": freeze, "head_lr": head_lr,
            "decay_vectors": decay_vectors, "channels_last": channels_last, "compile": compile,
            "label_smoothing": label_smoothing, "tta": asdict(self.tta),
        }  # fmt: skip
        self.save_hyperparameters({"net": described(net), **plain})

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = None, *, net: nn.Module | None = None, **settings: Any
    ) -> "Classifier":
        """A checkpoint of `fit` or of a plain Trainer as a Classifier with its weights.

        Args:
            checkpoint_path: the file. Nothing in it is run, and nothing that it names is imported.
            map_location: as `torch.load` takes it.
            net: without weights; needed where it is none of `cifar_lightning.nets`.
            settings: arguments of the constructor, such as `optimizer`, which no file holds.

        Raises ValueError: the net is none of this package.
        """
        if net is None:
            content = torch.load(checkpoint_path, map_location="meta", weights_only=True)
            net = _built(content.get("hyper_parameters", {}).get("net", {}))
        return super().load_from_checkpoint(checkpoint_path, map_location, weights_only=True, net=net, **settings)

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float images (N, 3, 32, 32) to float32 logits (N, C), whatever the precision inside."""
        return self.net(images).float()

    def train(self, mode: bool = True) -> "Classifier":
        """As in torch, except for what is frozen."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **settings: Any) -> Any:
        """As in torch, also where a part of the net went through torch.compile before, or does so now."""
        ours = {plain_name(name): name for name in self.state_dict()}
        renamed = {ours.get(plain_name(name), name): value for name, value in state_dict.items()}
        # The very object where nothing differs: it may carry versions of the modules.
        is_same = renamed.keys() == state_dict.keys()
        return super().load_state_dict(state_dict if is_same else renamed, *arguments, **settings)

    def configure_model(self) -> None:
        """Compiles the net once, in place: its parameters keep their names, and checkpoints do not change."""
        if self.compiles and not self._is_compiled:
            self.net.compile()
            self._is_compiled = True

    def step(self, batch: Batch, split: str, tta: TTA | None = None) -> dict[str, Tensor]:
        """The loss (), logits (B, C) and labels (B,) of a batch, which the sums of `split` count.

        Of labels that are shares the loss is the cross entropy against these, after any smoothing.
        """
        images, labels = batch
        logits = self(images) if tta is None else averaged_logits(self, images, tta)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing if split == "train" else 0.0)
        getattr(self, f"{split}_metrics").update(loss, logits, labels)
        return {"loss": loss, "logits": logits, "labels": labels}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss () of a batch."""
        return self.step(batch, "train")["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss (), logits (B, C) and labels (B,) of a batch."""
        return self.step(batch, "val", self.evaluation_tta)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss (), logits (B, C) and labels (B,) of a batch."""
        return self.step(batch, "test", self.evaluation_tta)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """The logits (B, C) of a batch, or of images (B, 3, 32, 32) alone."""
        return self(batch if isinstance(batch, Tensor) else batch[0])

    def on_train_start(self) -> None:
        """Tells the schedule how long the training is; after a resume too, where that may have changed.

        Random states come back here, since everything that was built meanwhile has drawn numbers.
        """
        if self._random is not None:
            distributed.restore_random_states(self._random)
            self._random = None
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ProgressLR):
                config.scheduler.span(self._planned_steps())
            if isinstance(config.scheduler, OneCycleLR) and config.scheduler.total_steps < self._planned_steps():
                steps, planned = config.scheduler.total_steps, self._planned_steps()
                raise ConfigError(
                    f"model.scheduler: OneCycleLR ends after {steps} steps, and the training takes {planned}: "
                    f"give a new run --model.scheduler.total_steps {planned}"
                )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Before the first step of all, and never on a resume: what the net computes from images."""
        if batch_idx == 0 and self.trainer.global_step == 0 and isinstance(self.net, StartsFromImages):
            images = batch[0]
            if self.trainer.world_size > 1:  # whitening must not depend on world_size
                images = torch.cat([part.to(self.device) for part in distributed.gathered(images.cpu())])
            self.net.start_from_images(images)

    def on_train_epoch_start(self) -> None:
        """A new epoch counts from zero; a resumed one does not come by here and goes on counting."""
        self.train_metrics.reset()
        self.validated = {}

    def on_validation_epoch_start(self) -> None:
        """Validation always starts anew, in every process with the same net."""
        self.val_metrics.reset()
        distributed.share_buffers(self.net)

    def on_test_epoch_start(self) -> None:
        """A test always starts anew, in every process with the same net."""
        self.test_metrics.reset()
        distributed.share_buffers(self.net)

    def on_train_epoch_end(self) -> None:
        """Publishes the epoch's `train/...` and `val/...` to callbacks that monitor them, and to ReduceLROnPlateau.

        That scheduler steps here and not where Lightning steps it: after the epoch's checkpoint is written, and not at
        all in an epoch that was resumed. An epoch without a validation tells it nothing of `val/...`.
        """
        figures = self._publish("train")
        validated = {f"val/{name}": value for name, value in self.validated.items()}
        self.log_dict(validated, logger=False)
        known = validated | {f"train/{name}": value for name, value in figures.items()}
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau) and config.scheduler.monitor in known:
                config.scheduler.step(known[config.scheduler.monitor])

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any | None) -> None:
        """Lightning's moment for every other scheduler."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_validation_epoch_end(self) -> None:
        """Publishes `val/loss` and `val/accuracy`, and keeps them for the epoch's end."""
        figures = self._publish("val")
        if not self.trainer.sanity_checking:
            self.validated = figures

    def on_test_epoch_end(self) -> None:
        """Publishes `test/loss` and `test/accuracy`."""
        self._publish("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The epoch's sums so far are saved over all processes, since one file stands for all, and every random state.

        Lightning saves none of these; with it, dropout goes on as if the training had not been cut.
        """
        checkpoint["random"] = distributed.random_states()
        checkpoint["validated"] = self.validated
        sums = {name: distributed.sum_over_ranks(total) for name, total in self._sums().items()}
        for state in _states(checkpoint):
            state.update(sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rank 0 goes on with the sums, the others count from zero."""
        self.validated = checkpoint.get("validated", {})
        # Our runs' older checkpoints have the states in their own section; a plain Trainer's may have none.
        states = checkpoint.get("random") or checkpoint.get("cifar_lightning", {}).get("random", [])
        is_training = self._trainer is not None and self.trainer.state.fn == "fit"
        self._random = states[self.global_rank] if is_training and self.global_rank < len(states) else None
        if self.global_rank > 0:
            for state in _states(checkpoint):
                state.update({name: torch.zeros_like(total) for name, total in self._sums().items()})

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As in Lightning, which refuses to clip for a fused optimizer even where no gradient is scaled."""
        if gradient_clip_val and self.trainer.scaler is None:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(self.trainer.precision_plugin, optimizer, gradient_clip_val, algorithm)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def build_optimizer(self) -> Optimizer:
        """The optimizer over the net's parameters, in groups where `head_lr` or `decay_vectors` tell them apart."""
        return self.make_optimizer(grouped(self.net, self.head_lr, self.decay_vectors))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of `build_optimizer`, with its scheduler if there is one. Raises ValueError."""
        optimizer = self.build_optimizer()
        for group in optimizer.param_groups if self.lr is not None else []:
            group["lr"] = self.lr
        if self.make_scheduler is None:
            return optimizer
        rates = [group["lr"] for group in optimizer.param_groups]
        scheduler = self.make_scheduler(optimizer)
        set_rates = [group.get("initial_lr", rate) for group, rate in zip(optimizer.param_groups, rates, strict=True)]
        if self.head_lr is not None and set_rates != rates:
            raise ValueError(f"model.head_lr: {type(scheduler).__name__} sets the rates of all parameters itself")
        interval = "step" if isinstance(scheduler, (ProgressLR, OneCycleLR, CyclicLR)) else self.scheduler_interval
        config = LRSchedulerConfigType(scheduler=scheduler, interval=interval)
        if isinstance(scheduler, ReduceLROnPlateau):
            config["reduce_on_plateau"] = False  # Lightning is not to step it: see on_train_epoch_end
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _planned_steps(self) -> int:
        """The optimizer steps of the whole training, from the batches that the training data have."""
        # Not trainer.estimated_stepping_batches, which drops a restored loader's state (Lightning issue 20550).
        trainer = self.trainer
        per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        limits = [] if self.max_steps is None else [self.max_steps]
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            limits.append(per_epoch * trainer.max_epochs)
        if not limits:
            raise ValueError("a schedule over the whole training needs its length: give --trainer.max_epochs")
        return max(min(limits), 1)

    def _sums(self) -> dict[str, Tensor]:
        """The sums of all splits by their names in the state: everything there but the net."""
        return {name: total for name, total in self.state_dict().items() if not name.startswith("net.")}

    def _publish(self, split: str) -> dict[str, float]:
        # In `fit` the LearningCurves callback writes the curves, against the epoch and without an `epoch` scalar.
        figures: dict[str, float] = getattr(self, f"{split}_metrics").compute()
        named = {f"{split}/{name}": value for name, value in figures.items()}
        self.log_dict(named, logger=self.logs, prog_bar=self.logs)
        return figures


def plain_name(name: str) -> str:
    """The name of a parameter without what torch.compile puts into it."""
    return name.replace("_orig_mod.", "")


def _part(net: nn.Module, name: str) -> nn.Module:
    parts = dict(net.named_modules())
    for inner in (name, *(f"{outer}.{name}" for outer, _ in net.named_children())):  # as in the table of layers
        if name and inner in parts:
            return parts[inner]
    raise ValueError(f"model.freeze: the net has no part {name!r}{did_you_mean(name, parts)}")


def _states(checkpoint: dict[str, Any]) -> list[dict[str, Tensor]]:
    """The model's state, and beside an average of the weights the state that training goes on with."""
    return [checkpoint[name] for name in ("state_dict", "current_model_state") if name in checkpoint]


def described(net: nn.Module) -> dict[str, Any]:
    """The class of a net and its arguments, None where the net does not tell them (as `arguments`)."""
    given: dict[str, Any] | None = getattr(net, "arguments", None)
    # Lists, as YAML has no tuples.
    plain = given and {name: [*value] if isinstance(value, tuple) else value for name, value in given.items()}
    return {"class_path": f"{type(net).__module__}.{type(net).__qualname__}", "init_args": plain}


def _built(description: dict[str, Any]) -> nn.Module:
    """The net that `described` tells of, if it is one of this package. Raises ValueError."""
    module, _, name = str(description.get("class_path")).rpartition(".")
    arguments = description.get("init_args")
    if not module.startswith("cifar_lightning.nets.") or arguments is None:
        raise ValueError(f"the checkpoint's net ({module}.{name}) is none of cifar_lightning.nets: give net=")
    built: nn.Module = getattr(sys.modules[module], name)(**arguments)
    return built

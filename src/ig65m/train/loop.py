"""The training loop: one step of a network, checkpoints that resume a run as if it had not stopped."""

import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ig65m.atomic import finished_file
from ig65m.errors import CheckpointError, UsageError, plain
from ig65m.train import processes

SAVE_EVERY = 240.0  # seconds

Forward = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class Run:
    """A network in training, its optimiser, and the running mean of its weights.

    With several processes, each passes its part of the batch to `update`; the weights stay the same in all of them.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        plan: Mapping[str, Any],
        rate: Callable[[int], float],
        loss: Loss,
        forward: Forward | None = None,
        frozen: Sequence[nn.Module] = (),
        clip_norm: float | None = None,
        average: float | None = None,
    ) -> None:
        """Start a run at step 0.

        Args:
            network: The network; it is on its device.
            optimiser: Optimiser of its parameters; a group may have a `scale`, by which its learning rate is multiplied.
            plan: All that determines the run, as values that `torch.save` takes; a checkpoint of another plan is refused.
            rate: Learning rate of a step.
            loss: Mean loss of logits and targets.
            forward: Maps clips to logits. Default: the network.
            frozen: Modules that stay in eval mode, so that their batch norms do not change.
            clip_norm: Largest norm of all gradients together. Default: any.
            average: Weight of the old value in the running mean of the weights. Default: no mean.
        """
        self.network, self.optimiser, self.plan = network, optimiser, dict(plan)
        self.rate, self.loss, self.forward = rate, loss, forward or network
        self.frozen, self.clip_norm, self.average = frozen, clip_norm, average
        self.step = 0
        self.seconds = 0.0
        self.notes: dict[str, Any] = {}  # tensors and plain values of the caller, part of the checkpoint
        self.mean: dict[str, Tensor] = {}
        if average is not None:
            self.mean = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, clips: Tensor, targets: Tensor, *, whole: int | None = None) -> tuple[float, Tensor]:
        """Make one step with this process's part of a batch of `whole` clips; return the loss of the batch and own logits.

        Raises UsageError if the loss or a gradient is not finite.
        """
        self.network.train()
        for module in self.frozen:
            module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(self.step) * group.get("scale", 1.0)
        logits = self.forward(clips)
        loss = self.loss(logits, targets)
        if whole not in (None, len(clips)):
            loss = loss * (len(clips) / whole)
        total = processes.add_up(loss.detach().clone()).item()
        if not abs(total) < float("inf"):
            raise UsageError(
                f"the loss of step {self.step} is {total}; lower the learning rate, or train without mixed precision"
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        processes.add_up_gradients(trained)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(trained, self.clip_norm, error_if_nonfinite=True)
        self.optimiser.step()
        self.step += 1
        self._average()
        return total, logits.detach()

    def _average(self) -> None:
        if self.average is None:
            return
        keep = min(self.average, self.step / (self.step + 10))  # the mean follows fast at first
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - keep)
            else:
                self.mean[name].copy_(value)

    def save_checkpoint(self, file: Path) -> None:
        """Write the state; a crash leaves the old file or the new one."""
        state = {
            "plan": self.plan,
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
            "notes": self.notes,
        }
        with finished_file(file) as temporary:
            torch.save(state, temporary)

    def restore(self, checkpoint: Path) -> None:
        """Resume from a file of `save_checkpoint`.

        Raises CheckpointError if it is damaged, or belongs to a run with another plan.
        """
        try:
            with zipfile.ZipFile(checkpoint) as records:
                if (changed := records.testzip()) is not None:  # torch.load ignores checksums
                    raise CheckpointError(f"{changed} was changed")
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            plan = state["plan"]
        except OSError:
            raise
        except Exception as error:  # whatever a broken file raises in PyTorch
            what = plain(error, 200) or type(error).__name__
            raise CheckpointError(f"{checkpoint} is not a checkpoint of a training: {what}; delete it to start again") from None
        if plan != self.plan:
            differs = ", ".join(sorted(key for key in {*plan, *self.plan} if plan.get(key) != self.plan.get(key)))
            raise CheckpointError(f"{checkpoint} belongs to another run: {differs} differ; delete it to start again")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["mean"].items():
            self.mean[name].copy_(value)
        self.step, self.seconds, self.notes = state["step"], state["seconds"], state["notes"]


def train(
    run: Run,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    checkpoint: Path,
    after_step: Callable[[float, Tensor, Tensor], bool],
    whole: int | None = None,
    save_every: float = SAVE_EVERY,
    on_save: Callable[[], None] | None = None,
) -> None:
    """Make a step with each batch, and save a checkpoint every `save_every` seconds and at the end, by process 0.

    `after_step` gets the loss, and logits and targets of this process; the run ends early if it returns True. `on_save` is
    called after each checkpoint.
    """
    started = time.monotonic() - run.seconds
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if processes.rank() == 0:
            run.save_checkpoint(checkpoint)
            if on_save is not None:
                on_save()
        saved = time.monotonic()

    for clips, targets in batches:
        loss, logits = run.update(clips, targets, whole=whole)
        run.seconds = time.monotonic() - started
        if after_step(loss, logits, targets):
            break
        if time.monotonic() - saved >= save_every:
            save()
    save()

"""Checkpoints: a training that was interrupted and resumed ends with the same bytes as an uninterrupted one."""

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from asdpipe.errors import UserError
from asdpipe.models.tensors import save_tensors

# Increase when the content of a checkpoint changes, so that old ones are not read.
FORMAT = 2
RNG, LOSSES = "rng", "losses"

logger = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Everything that a training needs to continue."""

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    rng: torch.Generator
    order: np.random.Generator | None = None
    """Generator for the batches of an epoch; None: ``rng`` is used for them too."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per finished epoch."""
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))
    """Losses of the finished steps of the current epoch, (steps, terms)."""

    def __post_init__(self) -> None:
        self._save_order()

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Add the row of a finished epoch to the history and begin the next one."""
        self.history.append(row)
        self.losses = self.losses[:0]
        self._save_order()

    def last_losses(self, names: Sequence[str]) -> dict[str, float]:
        """Return mean losses of the last finished epoch by name; none before the first has finished."""
        return {name: self.history[-1][name] for name in names} if self.history else {}

    def _save_order(self) -> None:
        # The state before the epoch: a training that resumes within it makes all its batches again.
        self._order = self.order.bit_generator.state if self.order else None

    def is_finite(self) -> bool:
        """Return whether all weights and buffers are finite."""
        values = (value for module in self.modules.values() for value in module.state_dict().values())
        return all(bool(value.isfinite().all()) for value in values)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors of the state, which the next step changes, and its JSON-able part."""
        tensors = {RNG: self.rng.get_state(), LOSSES: self.losses}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": value for key, value in values.items()}
        return tensors, {"history": self.history, "order": self._order}

    def restore(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Load a state that ``state`` returned.

        Raises:
            KeyError, RuntimeError: it belongs to another training.
        """
        for name, module in self.modules.items():
            module.load_state_dict(_with_prefix(tensors, f"{name}/"))
        content = self.optimizer.state_dict()
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        content["state"] = {number: {} for number in range(len(parameters))}
        for name, value in _with_prefix(tensors, "optimizer/").items():
            number, _, key = name.partition("/")
            like = parameters[int(number)]
            # Copy into the memory format of the parameter, which the file does not store.
            same = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
            content["state"][int(number)][key] = same
        self.optimizer.load_state_dict(content)
        self.rng.set_state(tensors[RNG])
        self.losses = tensors[LOSSES]
        self.history = list(metadata["history"])
        if self.order:
            self.order.bit_generator.state = metadata["order"]
            self._save_order()


class Interrupted(UserError):
    """The process received SIGTERM or SIGINT, finished its step and saved its state."""


class Checkpoint:
    """A training state in one file, read only by a training of the same settings, inputs and code.

    Args:
        path: file of the state.
        made_of: JSON-able settings and digests of inputs and code that identify the training.
    """

    def __init__(self, path: Path, made_of: Mapping[str, Any]) -> None:
        self.path = path
        content = json.dumps({"format": FORMAT, **made_of}, sort_keys=True)
        self._identity = hashlib.sha256(content.encode()).hexdigest()
        self.stop_asked = threading.Event()
        """Set by a signal; ``save`` then raises ``Interrupted``."""

    def save(self, state: TrainingState) -> None:
        """Write the state, replacing the file atomically.

        Raises:
            Interrupted: the process received SIGTERM or SIGINT; the state is written.
        """
        tensors, metadata = state.state()
        header = {"made_of": self._identity, "facts": json.dumps(metadata)}
        save_tensors(tensors, header, self.path)
        self.end_if_asked(state)

    def end_if_asked(self, state: TrainingState) -> None:
        """Raise ``Interrupted`` if a signal was received; the state must have been saved."""
        if self.stop_asked.is_set():
            message = (
                f"stopped by a signal after epoch {len(state.history)} and {len(state.losses)} steps; "
                "nothing is lost: run the same command again to resume"
            )
            raise Interrupted(message)

    def restore(self, state: TrainingState) -> None:
        """Load the saved state into a training, if there is one of the same settings, inputs and code.

        Raises:
            UserError: the file claims to be of this training, but does not fit it.
        """
        if not self.path.exists():
            return
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError) as error:
            logger.warning("%s: cannot be read (%s), starting from the beginning", self.path, error)
            return
        if header.get("made_of") != self._identity:
            logger.warning("%s: was saved with other settings, inputs or code, starting from the beginning", self.path)
            return
        try:
            state.restore(tensors, json.loads(header["facts"]))
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            # The state may be partly restored by now, so starting from the beginning is no option.
            raise UserError(f"{self.path}: does not fit this training ({error}); delete it and run again") from None
        logger.info("resuming after epoch %d and %d steps, from %s", len(state.history), len(state.losses), self.path)

    def remove(self) -> None:
        """Remove the file, once the results of the training are written."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Delay SIGTERM and SIGINT until ``save``; a second signal of the same kind acts at once."""
        # Only the main thread may set handlers; signals that are ignored (nohup) stay ignored.
        numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.getsignal(number) for number in numbers}
        before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

        def stop(number: int, _: Any) -> None:
            self.stop_asked.set()
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

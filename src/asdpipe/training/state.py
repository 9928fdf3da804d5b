"""The state of a training on disk: an interrupted training that is started again ends with the same bytes."""

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from asdpipe.artifacts.files import written
from asdpipe.errors import UserError

# Counts changes of what a checkpoint holds: an old one must not be read as a new one.
FORMAT = 2
RNG, LOSSES = "rng", "losses"

logger = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Everything that decides how a training continues."""

    modules: Mapping[str, nn.Module]
    optimizer: torch.optim.Optimizer
    rng: torch.Generator
    order: np.random.Generator | None = None
    """Draws the batches of an epoch, if ``rng`` does not."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """A row for every epoch that is done."""
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))
    """Of the finished steps of an unfinished epoch, (steps, terms)."""

    def __post_init__(self) -> None:
        self._note_order()

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Add the row of the epoch to the history; the next begins."""
        self.history.append(row)
        self.losses = self.losses[:0]
        self._note_order()

    def _note_order(self) -> None:
        # As it is before the epoch: a step within it is reached by making its batches once more.
        self._order = self.order.bit_generator.state if self.order else None

    def is_finite(self) -> bool:
        """Tell whether all weights and buffers are finite."""
        values = (value for module in self.modules.values() for value in module.state_dict().values())
        return all(bool(value.isfinite().all()) for value in values)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors, and what is JSON-able."""
        tensors = {RNG: self.rng.get_state(), LOSSES: self.losses}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": value for key, value in values.items()}
        # Copies: safetensors takes no two names for one storage, and nothing but plain memory.
        copied = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        return copied, {"history": self.history, "order": self._order}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go back to a state.

        Raises:
            KeyError, RuntimeError: it is that of another training.
        """
        for name, module in self.modules.items():
            module.load_state_dict(_below(tensors, f"{name}/"))
        content = self.optimizer.state_dict()
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        content["state"] = {number: {} for number in range(len(parameters))}
        for name, value in _below(tensors, "optimizer/").items():
            number, _, key = name.partition("/")
            like = parameters[int(number)]
            # A copy keeps the parameter's memory format, which the file does not know.
            same = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
            content["state"][int(number)][key] = same
        self.optimizer.load_state_dict(content)
        self.rng.set_state(tensors[RNG])
        self.losses = tensors[LOSSES]
        self.history = list(facts["history"])
        if self.order:
            self.order.bit_generator.state = facts["order"]
            self._note_order()


class Interrupted(UserError):
    """A signal asked the process to end; it did so after finishing its step."""


class Checkpoint:
    """A training state in one file, read only by a training of the same settings, inputs and code.

    Args:
        path: beside the artifacts that the training makes.
        made_of: JSON-able settings and inputs that decide how the training ends.
    """

    def __init__(self, path: Path, made_of: Mapping[str, Any]) -> None:
        self.path = path
        content = json.dumps({"format": FORMAT, **made_of}, sort_keys=True)
        self._identity = hashlib.sha256(content.encode()).hexdigest()
        self.stop_asked = threading.Event()
        """Whether a signal asks for an end: then ``save`` raises."""

    def save(self, state: TrainingState) -> None:
        """Write the state; the file before stays until this one is whole.

        Raises:
            Interrupted: it is written, and the process is asked to end.
        """
        tensors, facts = state.state()
        metadata = {"made_of": self._identity, "facts": json.dumps(facts)}
        with written(self.path) as temporary:
            temporary.write_bytes(safetensors.torch.save(tensors, metadata))
        self.end_if_asked(state)

    def end_if_asked(self, state: TrainingState) -> None:
        """Raise ``Interrupted`` if the process is asked to end; the state must have been saved."""
        if self.stop_asked.is_set():
            message = (
                f"stopped by a signal after epoch {len(state.history)} and {len(state.losses)} steps; "
                "nothing is lost: run the same command again and the training goes on from there"
            )
            raise Interrupted(message)

    def restore(self, state: TrainingState) -> None:
        """Bring a training to the state that was saved; without one of the same training it stays as it is.

        Raises:
            UserError: the file says that it is of this training, and is not.
        """
        if not self.path.exists():
            return
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError) as error:
            logger.warning("%s: cannot be read (%s), starting from the beginning", self.path, error)
            return
        if metadata.get("made_of") != self._identity:
            logger.warning("%s: is of other settings, inputs or code, starting from the beginning", self.path)
            return
        try:
            state.restore(tensors, json.loads(metadata["facts"]))
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            # Something may have been restored by now: there is no way back to the beginning.
            raise UserError(f"{self.path}: does not fit this training ({error}); delete it and run again") from None
        logger.info("going on after epoch %d and %d steps, from %s", len(state.history), len(state.losses), self.path)

    def remove(self) -> None:
        """Remove the file: the training has ended well, and its artifacts are there."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT wait for ``save``; a second one of the kind does what the first would have done."""
        # Only the main thread may set handlers; what is ignored (nohup) stays so.
        numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        before = {each: signal.getsignal(each) for each in numbers if signal.getsignal(each) != signal.SIG_IGN}

        def note(number: int, _: Any) -> None:
            self.stop_asked.set()
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}

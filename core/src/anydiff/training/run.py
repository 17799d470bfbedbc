"""The folder a training leaves: config, weights, resumable state, log, samples, card (DESIGN 9).

Every file but the log is replaced atomically; the log is appended line by line, and a line torn by a kill is cut off
when the run is resumed. While a process trains, ``run.lock`` names it, and another one is refused. Nothing in a run
folder is executed on loading.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from anydiff.data.reading import parse_json, read_yaml, reading
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path, is_part, write_atomic
from anydiff.locks import Lock
from anydiff.training.weights import load_weights, save_weights

STATE_FORMAT = "anydiff-state-2"
STATE_BEFORE = "anydiff-state-1"
"""Holds one network, its average and its optimiser without names; read as the state of a training of one group."""
LOCK = "run.lock"
"""The file that names the process which trains in a run folder."""


def process_rank() -> int:
    """This process's rank as a launcher (torchrun, Fabric, Slurm) announces it; 0 when there is none."""
    for variable in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return 0


class RunFolder:
    """A run: ``config.yaml``, ``model.safetensors``, ``state.pt``, ``log.jsonl``, ``samples/``, ``card.md``.

    Make one with :meth:`create` (to train into) or :meth:`open` (to read).

    Attributes:
        path: the folder.
        config: the resolved configuration, plain data.
        metadata: texts stored with the weights.
    """

    def __init__(self, path: Path, config: dict[str, Any], metadata: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.config = config
        self.metadata = dict(metadata or {})
        self._lock = Lock(path / LOCK, f"the run {str(path)!r}")

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: dict[str, Any],
        metadata: Mapping[str, str] | None = None,
        *,
        resume: bool = False,
        notes: Sequence[str] = (),
    ) -> RunFolder:
        """Begin a run in a new or empty folder, or continue one with ``resume``; own it until :meth:`release`.

        Args:
            path: the folder; made if missing.
            config: resolved configuration (plain data), written to ``config.yaml``.
            metadata: texts to store in ``model.safetensors``, beside what :func:`anydiff.training.fit` adds.
            resume: accept a folder that holds a run. Its configuration is replaced by ``config``; ``fit`` refuses
                settings that would make another model.
            notes: lines that stand as comments at the top of ``config.yaml``.

        Raises:
            AnydiffError: the folder holds files and ``resume`` is false, or it holds no run, or trained weights without
                the state to resume from, or another process trains in it, or it cannot be written.
            FileFormatError: the configuration of the run to continue is unreadable.
        """
        folder = Path(path)
        run = cls(folder, config, metadata)
        if process_rank() > 0:
            return run  # rank 0 owns the folder
        names = run._names()
        if names and "config.yaml" not in names:
            if resume:
                raise AnydiffError(
                    f"{str(path)!r} holds files but no run (config.yaml is missing); choose another folder."
                )
            raise run._not_empty()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AnydiffError(
                f"cannot make {str(path)!r}: {error.strerror or error}; choose another folder."
            ) from error
        run._lock.acquire()
        try:
            run._begin(resume, notes)
        except BaseException:
            run.release()
            raise
        return run

    def _begin(self, resume: bool, notes: Sequence[str]) -> None:
        """Check what the folder holds, now that no other process writes there, and write the configuration."""
        names = self._names()
        if names and not resume:
            raise self._not_empty()
        if names:
            RunFolder.open(self.path)
            if "model.safetensors" in names and "state.pt" not in names:
                raise AnydiffError(
                    f"{str(self.path)!r} holds trained weights (model.safetensors) but no state.pt to resume from, and "
                    "would be trained again from the start; restore state.pt, or train into a new folder."
                )
        for entry in filter(is_part, self.path.iterdir()):  # left by kills
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        head = "".join(f"# {' '.join(note.split())}\n" for note in notes)
        write_atomic(self.path / "config.yaml", head + yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    def _names(self) -> list[str]:
        """What the folder holds beside locks and parts; nothing if there is no folder."""
        try:
            entries = list(self.path.iterdir()) if self.path.exists() else []
        except OSError as error:
            reason = error.strerror or str(error)
            raise AnydiffError(f"cannot use {str(self.path)!r} as a run folder: {reason}; choose another.") from error
        return [entry.name for entry in entries if not is_part(entry) and entry.name != LOCK]

    def _not_empty(self) -> AnydiffError:
        return AnydiffError(f"{str(self.path)!r} is not empty; choose another folder, or resume to continue its run.")

    def release(self) -> None:
        """Let other processes train in the folder again; done when a training ends."""
        self._lock.release()

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run, to read.

        Raises:
            AnydiffError: there is no run.
            FileFormatError: its configuration is unreadable.
        """
        file = Path(path) / "config.yaml"
        if not file.is_file():
            raise AnydiffError(f"{str(path)!r} is no run folder: it has no config.yaml; give a run's folder.")
        config = read_yaml(file, "the settings of a run", "restore it or train again")
        if not isinstance(config, dict):
            raise FileFormatError(f"{str(file)!r} is not a table of settings; restore it or train again.")
        return cls(Path(path), config)

    @property
    def weights_path(self) -> Path:
        """The averaged weights."""
        return self.path / "model.safetensors"

    @property
    def samples(self) -> Path:
        """Folder for samples; made on first use."""
        folder = self.path / "samples"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AnydiffError(f"cannot make {str(folder)!r}: {error.strerror}; check its permissions.") from error
        return folder

    def save_weights(self, tensors: Mapping[str, Tensor], **facts: str) -> None:
        """Replace ``model.safetensors``; its metadata are the run's and ``facts``."""
        save_weights(self.weights_path, tensors, {**self.metadata, **facts}, overwrite=True)

    def load_weights(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """(tensors, metadata) of ``model.safetensors``; errors as :func:`anydiff.training.weights.load_weights`."""
        return load_weights(self.weights_path)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace ``state.pt``: plain containers, numbers, texts and tensors only."""
        with atomic_path(self.path / "state.pt") as temporary:
            try:
                torch.save({"format": STATE_FORMAT, **state}, temporary)
            except RuntimeError as error:  # how torch reports a full disk
                raise OSError(str(error).splitlines()[0]) from error

    @property
    def has_state(self) -> bool:
        """Whether there is a state to resume from."""
        return (self.path / "state.pt").exists()

    def load_state(self) -> dict[str, Any] | None:
        """The last ``state.pt``, on the CPU; None when the run was stopped before its first checkpoint.

        Raises:
            FileFormatError: it is truncated, foreign, or of another version.
        """
        file = self.path / "state.pt"
        if not self.has_state:
            return None
        advice = "remove it to begin again, or train into a new folder"
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except PermissionError as error:
            raise AnydiffError(f"cannot read {str(file)!r}: {error.strerror}; check its permissions.") from error
        except Exception as error:  # whatever the unpickler makes of foreign bytes
            raise FileFormatError(f"{str(file)!r} is truncated or no checkpoint of anydiff; {advice}.") from error
        found = state.get("format", "no anydiff format") if isinstance(state, dict) else "no anydiff format"
        if found not in (STATE_FORMAT, STATE_BEFORE):
            raise FileFormatError(f"{str(file)!r} holds {found!r}, but {STATE_FORMAT!r} is needed; {advice}.")
        with reading(file, "the state of a training", advice):
            return dict(state) if found == STATE_FORMAT else _named_state(state)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``log.jsonl``."""
        line = json.dumps(record, allow_nan=True) + "\n"
        try:
            with open(self.path / "log.jsonl", "ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:
            reason = error.strerror or str(error)
            raise AnydiffError(
                f"cannot write {str(self.path / 'log.jsonl')!r}: {reason}; free some space or check its permissions."
            ) from error

    def records(self) -> list[dict[str, Any]]:
        """The lines of ``log.jsonl``; the last is left out where a kill has torn it.

        Raises:
            FileFormatError: another line is damaged.
        """
        file = self.path / "log.jsonl"
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
        del lines[-1]  # what follows the last end of line: nothing, or a torn line
        records = []
        for number, line in enumerate(lines, start=1):
            try:
                record = parse_json(line, file, "a log", "remove the broken line", number)
                if not isinstance(record, dict) or not isinstance(record.get("step", 0), int):
                    raise FileFormatError(f"line {number} of {str(file)!r} is no record of a log; remove it.")
            except FileFormatError:
                if number < len(lines):
                    raise
                break
            records.append(record)
        return records

    def rewind_log(self, step: int) -> None:
        """Drop a torn last line and every record after ``step``, which a resumed training will write again."""
        if (self.path / "log.jsonl").exists():
            kept = [json.dumps(record) for record in self.records() if record.get("step", 0) <= step]
            write_atomic(self.path / "log.jsonl", "".join(line + "\n" for line in kept))

    def write_card(self, text: str) -> None:
        """Replace ``card.md``."""
        write_atomic(self.path / "card.md", text)


def _named_state(state: dict[str, Any]) -> dict[str, Any]:
    """A state of :data:`STATE_BEFORE` as one of :data:`STATE_FORMAT`."""
    named = {name: value for name, value in state.items() if name not in ("network", "ema", "optimizer", "loss")}
    return {
        **named,
        "format": STATE_FORMAT,
        "modules": {"network": state["network"]},
        "averages": {"network": state["ema"]},
        "optimisers": {"network": state["optimizer"]},
        "frozen": {},
        "losses": {"sums": {"network/loss": state["loss"]["sum"]}, "count": state["loss"]["count"]},
    }

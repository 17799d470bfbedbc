"""Writes every training's log to TensorBoard, where it is installed (`pip install tensorboard`).

Try `anydiff --plugins-dir examples train two_moons/small --out runs/moons`, then `tensorboard --logdir runs`.
"""

import sys

from anydiff import hookimpl

_writer = None


@hookimpl
def training_started(recipe, folder, step):
    global _writer
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # a logger must not stop a training
        print("tensorboard_log: nothing is logged; `pip install tensorboard` for that.", file=sys.stderr)
        return
    _writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
    _writer.add_text("recipe", f"```yaml\n{recipe.to_yaml()}```", step)


@hookimpl
def training_step(step, values):
    if _writer is not None:
        for name, value in values.items():
            _writer.add_scalar(name, value, step)


@hookimpl
def checkpoint_saved(step):
    if _writer is not None:
        _writer.flush()


@hookimpl
def evaluation_finished(recipe, values):
    print(f"{recipe.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()), file=sys.stderr)

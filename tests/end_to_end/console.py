"""Finds every command that the documentation and the help show, and runs it in this process, made small by a table."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from anydiff.cli.main import run
from anydiff.plugins import forget, loaded

ROOT = Path(__file__).parents[2]

SMALLER = [
    (r"--count \d+", "--count 4"),
    (r"--members \d+", "--members 2"),
    (r"--cases \d+", "--cases 2"),
    (r"--episodes \d+", "--episodes 12"),
    (r"--nfe \d+", "--nfe 3"),
    (r"^anydiff text score ", "anydiff text score --draws 2 "),
    (r"^anydiff cost ", "anydiff cost --no-memory --seconds 0.01 "),
    (r"^anydiff calibrate ", "anydiff calibrate --count 2 --fresh 8 "),
    (r"^anydiff optimise (.*?)(--rounds \d+|$)", r"anydiff optimise \1 --rounds 1"),
    (r"--seeds 3", "--seeds 1 --count 1 --nfe 1"),
    (r"--devices 2", "--devices 1"),  # several start this very process again, which is the test's
    (r"Hopper-v5", "Pendulum-v1"),
]
"""(what is written, what is run): the same commands with small budgets, on what every machine has."""

TRAINING = {
    "images": "training.steps=2 training.batch_size=4 network.options.channels=8",
    "audio": "training.steps=2 training.batch_size=4 network.options.channels=8 network.options.multipliers=[1]",
    "weather": "training.steps=2 training.batch_size=4",
    "text": "training.steps=2 training.batch_size=4 network.options.width=16 network.options.blocks=1",
    "": "training.steps=2 training.batch_size=4",
}
"""Changes that make a training two small steps, by the recipe's domain."""

ENOUGH = {
    "images": 128,
    "runs/fashion": 128,
    "molecules": 8,
    "weather": 4,
    "pose": 4,
    "timeseries": 16,
    "runs/hopper": 10,
}
"""How many samples the metrics of a recipe, or of its domain, ask for at least."""

NOT_RUN = [
    (r"^(pip|make|python -m) ", "installs, builds or measures for many minutes; continuous integration runs it"),
    (r"^anydiff bench run --suite inverse", "measures for minutes; tests/benchmarks/engine runs its parts"),
    (r"^anydiff claims (run|report) ", "trains for minutes; tests/benchmarks runs the claims"),
    (r"^anydiff (benchmarks/)?(peers|speed)", "measures for minutes; tests/benchmarks/test_peers_and_speed.py"),
    (r"^anydiff advise ", "draws with 160 calls for a minute; tests/benchmarks/engine/test_advise.py"),
    (r"^anydiff gap ", "draws with hundreds of calls; tests/benchmarks/engine/test_gap.py"),
    (r"^anydiff data get ", "fetches from a registry; tests/core/data has a registry of its own"),
    (r"orchard", "needs the package installed; test_scaffold.py runs the tutorial"),
    (r"^anydiff bench( |$)(?!list)", "measures for minutes; test_bench.py runs these on a toy domain"),
    (r"^anydiff plugins doctor", "starts a process for each plugin; tests/core/plugins"),
    (r"^anydiff( --plugins-dir \S+)? check ", "the whole kit; every plugin's conformance test runs it"),
    (r"COMMAND", "stands for any command"),
    (
        r"^anydiff (sample|train .*--from) diffusers:",
        "needs a folder of that library; tests/plugins/adapters makes one",
    ),
    (r"^anydiff train .*--log ", "needs a tracker; tests/core/pipeline/test_trackers.py"),
    (r"--format onnx", "needs an extra; tests/end_to_end/test_graph.py exports where it is installed"),
    (r"^anydiff (pull|push|convert) ", "needs a hub or a pickled checkpoint; tests/core/data/test_hub.py has both"),
    (r"^anydiff train RECIPE ", "stands for any recipe; tests/core/objectives/test_fokker_planck.py trains one"),
]
"""(pattern, why it is not run here, and where it is)."""


@dataclass(frozen=True)
class Page:
    """What a reader would type, in order: commands, and files whose content the page shows."""

    name: str
    steps: tuple[tuple[str, str], ...]

    @property
    def commands(self) -> list[str]:
        return [text for kind, text in self.steps if not kind]


def pages() -> list[Page]:
    """Every page that shows a command: Markdown files, and the help of every command of the core and the plugins."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
    found = [Page(str(file.relative_to(ROOT)), tuple(_blocks(file.read_text()))) for file in files]
    for module in ["app", "check", "data", "distil", "edit", "evaluate", "export", "inverse", "new_plugin", "plugins",
                   "recipes", "restore", "sample", "show", "solvers", "train"]:  # fmt: skip
        found.append(_help(f"anydiff.cli.{module}"))
    commands = {
        entry.reference.partition(":")[0]
        for entry in loaded().registry.entries("commands")
        if entry.plugin != "anydiff"
    }
    found += [_help(module) for module in sorted(commands)]
    return [page for page in found if page.commands]


def _blocks(text: str):
    for kind, body in re.findall(r"^```(console|python|yaml)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if kind == "console":
            for line in re.sub(r"\\\n\s*", "", body).splitlines():
                if line.strip():
                    yield "", re.split(r"\s{2,}#|\s# ", line)[0].strip()
        elif file := re.match(r"# (\S+\.(?:py|yaml))\n", body):
            yield file.group(1), body


def _help(module: str) -> Page:
    loaded_module = importlib.import_module(module)
    texts = []
    for _, function in sorted(inspect.getmembers(loaded_module, inspect.isfunction)):
        if function.__module__ == module:
            examples = (inspect.getdoc(function) or "").partition("Examples:\n")[2]
            texts += [line.strip() for line in examples.splitlines() if line.strip()]
    return Page(f"help of {module}", tuple(("", text) for text in texts))


def reason_not_run(command: str) -> str:
    return next((reason for pattern, reason in NOT_RUN if re.search(pattern, command)), "")


def unknown_options(command: str) -> list[str]:
    """Options of a command that is not run, which its help does not have."""
    words = shlex.split(command.partition(" > ")[0])
    while words and words[0] != "anydiff":
        words.pop(0)
    if "--plugins-dir" in words:
        del words[words.index("--plugins-dir") : words.index("--plugins-dir") + 2]
    path = [word for word in words[1:3] if not word.startswith("-")]
    code, text = execute(shlex.join(["anydiff", *path[:2], "--help"]))
    if code:
        code, text = execute(shlex.join(["anydiff", *path[:1], "--help"]))
    assert code == 0, command
    return [word for word in words if word.startswith("--") and word not in text]


def smaller(command: str) -> str:
    """The command as it is run."""
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command, count=1)
    if match := re.search(r"anydiff(?: --plugins-dir \S+)? train (\S+)", command):
        changes = TRAINING.get(match.group(1).partition("/")[0], TRAINING[""]).split()
        if "--from " in command or re.search(
            r"-mmd |-shot |vq-|acdit", command
        ):  # another network, or the base's as it is
            changes = [change for change in changes if not change.startswith("network.")]
        command += "".join(f" --set {change}" for change in changes)
    if re.search(r"anydiff distil ", command):
        command += "".join(f" --set {change}" for change in TRAINING[""].split())
    if (match := re.search(r"anydiff evaluate (\S+)", command)) and "--samples" not in command:
        source = match.group(1)
        count = ENOUGH.get(source, ENOUGH.get(source.partition("/")[0], 8))
        command = f"{re.sub(r' --(count|nfe) [0-9]+', '', command)} --count {count}"
        if not source.endswith("-codes"):  # an autoencoder, which makes no steps
            command += f" --nfe {3 if '--calibration' in command else 2}"
    free = "--nfe" not in command and "-calls" not in command  # a student has a plan of its own
    if free and re.search(r"anydiff( --plugins-dir \S+)? sample ", command):
        command += " --nfe 3"
    return command


def execute(command: str) -> tuple[int, str]:
    """Run one line as a shell would, and return its exit code and what it printed to stdout."""
    command, _, target = command.partition(" > ")
    words = shlex.split(command)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words[0] == "anydiff", command
    _clear(words)
    out = io.StringIO()
    before = {name: os.environ.get(name) for name in [*variables, "ANYDIFF_PLUGINS_DIR"]}
    os.environ.update(variables)
    if variables:
        forget()
    try:
        with contextlib.redirect_stdout(out):
            code = run(words[1:])
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        if variables or "--plugins-dir" in words:  # each command is a process of its own elsewhere
            forget_modules_of(Path.cwd())
            forget()
    if target:
        Path(target.strip()).write_text(out.getvalue())
    return code, out.getvalue()


def forget_modules_of(folder: Path) -> None:
    """Single-file plugins that were imported from below ``folder`` must not hide those of other folders later."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]


def _clear(words: list[str]) -> None:
    """What an earlier command of the page left where this one writes is removed, as its reader would do."""
    if "--resume" in words or words[1] == "bench":
        return
    targets = [words[place + 1] for place, word in enumerate(words) if word in ("--out", "--picture")]
    targets += [words[3]] if words[1] == "export" else []
    if "--out" not in words and "sample" in words:
        targets += [str(path) for path in Path().glob("samples*")]
    for target in map(Path, targets):
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)

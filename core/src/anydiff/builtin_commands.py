"""The table of the core's commands, which :mod:`anydiff.builtin` announces. Imports nothing."""

from __future__ import annotations

#: name, help, reference in anydiff.cli
COMMANDS = (
    ("recipes", "List the recipes: named, complete experiments.", "recipes:app"),
    ("train", "Train a recipe; resume or extend a run.", "train:command"),
    ("sample", "Draw samples from a run or from bundled weights.", "sample:command"),
    ("restore", "Draw samples of which a measurement was made.", "restore:command"),
    ("edit", "Edit samples: another condition, another model.", "edit:command"),
    ("distil", "Distil a model into students of half the calls.", "distil:command"),
    ("optimise", "Draw samples with a higher reward, round by round.", "optimise:command"),
    ("evaluate", "Compute the metrics of a run or of samples.", "evaluate:command"),
    ("calibrate", "Let a solver learn its coefficients for a model.", "calibrate:command"),
    ("advise", "More calls, more training or more samples? And which solver?", "advise:command"),
    ("gap", "Do the ODE's and the SDE's samples of a model agree?", "gap:command"),
    ("cost", "Multiply-adds, seconds, bytes and memory of models.", "cost:command"),
    ("quantise", "Make a model with integer weights.", "quantise:command"),
    ("show", "Draw pictures of a run or of samples.", "show:command"),
    ("export", "Write one self-describing weights file from a run.", "export:command"),
    ("pull", "Fetch a model's folder from a hub.", "hub:pull"),
    ("push", "Upload a model to a hub.", "hub:push"),
    ("convert", "Turn a pickled checkpoint into safetensors.", "hub:convert"),
    ("data", "Fetch, check and list data sets.", "data:app"),
    ("solvers", "List the solvers; print the plan of one.", "solvers:app"),
    ("operators", "List the operators of measurements.", "inverse:operators"),
    ("inverse", "List the methods for inverse problems.", "inverse:inverse"),
    ("edits", "List the methods of editing.", "edit:edits"),
    ("check", "Run the conformance kit on a plugin.", "check:command"),
    ("new-plugin", "Write the skeleton of a plugin.", "new_plugin:command"),
    ("plugins", "List, check, enable and disable plugins.", "plugins:app"),
)

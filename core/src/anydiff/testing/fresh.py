"""Predicts with a saved network in a process that has only the file. Run by :mod:`anydiff.testing.networks`."""

from __future__ import annotations

import json
import sys

import torch

from anydiff.plugins.report import report_to
from anydiff.states import Conditioning
from anydiff.testing.networks import build_network
from anydiff.testing.subject import subject
from anydiff.training import load_into, load_weights, save_weights


def main() -> None:
    """Load the weights and inputs that the command line names, and write the prediction."""
    question = json.loads(sys.argv[1])
    report_to(lambda sentence: None)
    torch.set_num_threads(question["threads"])
    plugin = subject(question["plugin"])
    entry = next(each for each in plugin.of_kind("networks") if each.name == question["network"])
    # Seeded as in the parent: what another seed changes is found by network.saves.
    network, _ = build_network(plugin, entry)
    load_into(network, load_weights(question["weights"])[0], repr(question["weights"]))
    inputs = load_weights(question["inputs"])[0]
    x, log_snr = inputs.pop("x"), inputs.pop("log_snr")
    with torch.no_grad():
        prediction = network(x, log_snr, Conditioning.from_tensors(inputs))
    save_weights(question["answer"], {"prediction": prediction}, {}, overwrite=True)


if __name__ == "__main__":
    main()

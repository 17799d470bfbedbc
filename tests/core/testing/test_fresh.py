"""Networks of a plugin predict in processes of their own, started by one server that never loads a plugin."""

from __future__ import annotations

import os

import pytest
from mutants import WRITTEN

from anydiff.testing import check_plugin, fresh
from anydiff.testing.subject import subject


@pytest.fixture
def question(site, tmp_path):
    """What the kit asks of a plugin's one network, answered before anything is saved."""
    site.write("mutant", **WRITTEN["network"])
    files = {name: str(tmp_path / f"{name}.safetensors") for name in ("weights", "inputs", "answer")}
    return {"plugin": "mutant", "network": subject("mutant").of_kind("networks")[0].name, "threads": 1, **files}


def test_one_server_answers_all_and_each_answer_is_a_process_of_its_own(question, site):
    parts = site.folder / "src" / "anydiff_mutant" / "parts.py"
    text = parts.read_text()
    servers, said = set(), []
    for body in ("raise ValueError(f'copy {os.getpid()}')", "os._exit(0)", "os.kill(os.getpid(), 9)"):
        parts.write_text(f"import os\n{body}\n")
        said.append(fresh.ask(question, 60))
        servers.add(fresh._server().pid)
    assert len(servers) == 1
    assert f"copy {os.getpid()}" not in said[0]
    assert "copy " in said[0]
    assert said[1:] == ["it ended the interpreter"] * 2 if fresh.CAN_COPY else True
    parts.write_text(text)
    report = check_plugin("mutant", kinds=["networks"])
    assert report.ok, report.failed
    assert fresh._server().pid in servers


def test_a_network_that_never_answers_ends_with_its_server(question, site):
    parts = site.folder / "src" / "anydiff_mutant" / "parts.py"
    text = parts.read_text()
    parts.write_text("import time\ntime.sleep(600)\n")
    before = fresh._server()
    assert fresh.ask(question, 0.5) == "no answer within 0.5 s"
    assert before.poll() is not None
    parts.write_text(text)
    assert "model.safetensors" in fresh.ask({**question, "weights": "model.safetensors"}, 60)


def test_the_server_has_loaded_no_plugin(question, site):
    parts = site.folder / "src" / "anydiff_mutant" / "parts.py"
    parts.write_text("import sys\nraise ValueError(sorted(n for n in sys.modules if n.startswith('anydiff_')))\n")
    assert "ValueError: ['anydiff_mutant', 'anydiff_mutant.parts']" in fresh.ask(question, 60)

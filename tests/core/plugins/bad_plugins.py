"""Bad plugins: the code of each, and what its one-sentence report must say."""

from __future__ import annotations

from typing import NamedTuple


class Bad(NamedTuple):
    code: str
    says: tuple[str, ...]
    requires: str = "anydiff>=0.1,<0.2"


HEAD = "from anydiff.hookspecs import hookimpl\n"
REGISTER = HEAD + "@hookimpl\ndef register_solvers(register):\n    "

WRITTEN_FOR_1 = '''
"""A guidance as it was written for the plugin API 1.0; it stays as it is."""
from anydiff.hookspecs import hookimpl

ANYDIFF_API = ">=1.0,<2"

@hookimpl
def register_guidance(register):
    register("written-for-1", "towards the mean", "zoo_written_for_1.guidance:Mine")
'''

BAD = {
    "import-error": Bad(
        "import a_module_that_is_absent", ("install the package that provides 'a_module_that_is_absent'",)
    ),
    "import-inner": Bad("import json.absent", ("No module named 'json.absent'", "update or reinstall 'json'")),
    "import-name": Bad("from json import absent_name", ("ImportError", "absent_name", "update it")),
    "syntax": Bad("x = 1\ndef broken(:\n    pass\n", ("SyntaxError", "zoo_syntax.py:2", "repair or update")),
    "exits": Bad("raise SystemExit(3)", ("SystemExit: 3",)),
    "odd-exception": Bad("class Stop(BaseException): pass\nraise Stop('no')", ("Stop: no",)),
    "wrong-argument": Bad(
        HEAD + "@hookimpl\ndef register_solvers(registre): pass",
        ("argument of register_solvers", "'registre'", "mean 'register'"),
    ),
    "starred": Bad(HEAD + "@hookimpl\ndef training_step(*values): pass", ("*values", "recipe, folder, step, values")),
    "misspelt": Bad(
        HEAD + "@hookimpl\ndef register_solver(register): pass",
        ("'register_solver'", "did you mean 'register_solvers'?"),
    ),
    "unmarked": Bad("def register_solvers(register): pass", ("register_solvers lacks its marker", "@anydiff.hookimpl")),
    "wrapper": Bad(
        HEAD + "@hookimpl(wrapper=True)\ndef samples_ready(states):\n    return (yield)", ("wrapper", "plain function")
    ),
    "empty": Bad("x = 1", ("implements no hook", "@anydiff.hookimpl")),
    "half": Bad(
        REGISTER + "register('half/one', 'a', 'm:a'); raise RuntimeError('then it broke')",
        ("RuntimeError: then it broke",),
    ),
    "twice": Bad(
        REGISTER + "register('twice', 'a', 'm:a'); register('twice', 'b', 'm:b')",
        ("'twice' is registered twice", "keep one"),
    ),
    "clash": Bad(
        HEAD
        + "@hookimpl\ndef register_paths(register): register('clash/ok', 'a', 'm:a'); register('edm', 'mine', 'm:a')",
        ("path 'edm' is taken by the core", "register it as 'clash/edm'"),
    ),
    "outside": Bad(
        REGISTER + "register('good/mine', 'a', 'm:a')", ("outside the plugin's own names", "'outside/good/mine'")
    ),
    "bad-name": Bad(REGISTER + "register('bad-name/a b', 'a', 'm:a')", ("'bad-name/a b' is not a valid name",)),
    "bad-reference": Bad(REGISTER + "register('bad-reference', 'a', 'm.a')", ("'m.a'", "package.module:attribute")),
    "bad-help": Bad(REGISTER + "register('bad-help', '', 'm:a')", ("the help of", "one line")),
    "bad-metadata": Bad(REGISTER + "register('bad-metadata', 'a', 'm:a', order=object())", ("metadata", "plain data")),
    "too-new": Bad(
        "raise RuntimeError('imported')",
        ("needs anydiff >=99", "but this is anydiff", "pip install --upgrade"),
        "anydiff>=99",
    ),
    "too-old": Bad("raise RuntimeError('imported')", ("needs anydiff <0.0.1",), "anydiff<0.0.1"),
    "other-api": Bad("ANYDIFF_API = '>=99'", ("asks for the plugin API >=99", "this is 2.3", "upgrade")),
    "written-for-1": Bad(WRITTEN_FOR_1, ("asks for the plugin API >=1.0,<2", "this is 2.3", "'From API 1 to 2'")),
    "nested": Bad(
        "from anydiff.registry import registry\nregistry()", ("while plugins are loading", "inside a function")
    ),
}
"""Those that an ordinary process survives."""

ABORTS = "import os, sys\nsys.stderr.flush()\nos.abort()"
HANGS = "import time\ntime.sleep(600)"

DIES = ("ended the interpreter when it was loaded", "is quarantined")
REGISTERS = {
    "exits-hard": Bad(REGISTER + "import os; os._exit(0)", (*DIES, "exit code 0")),
    "aborts-late": Bad(REGISTER + "import os; os.abort()", (*DIES, "SIGABRT")),
    "kills-itself": Bad(REGISTER + "import os; os.kill(os.getpid(), 9)", (*DIES, "SIGKILL")),
    "loops": Bad(REGISTER + "n = 0\n    while True: n += 1", ("did not finish loading within 2 s", "is quarantined")),
    "sleeps": Bad(
        REGISTER + "import time\n    while True:\n        try: time.sleep(99)\n        except BaseException: pass",
        ("did not finish loading within 2 s", "ANYDIFF_PLUGIN_SECONDS"),
    ),
}
"""Those that an ordinary process does not survive, at registration."""

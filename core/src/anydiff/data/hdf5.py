"""HDF5 (and NetCDF-4, which is HDF5) before it is read: what it asks for, found in a process of its own.

The HDF5 library can loop for ever in damaged files, where no Python code can stop it, and it fills what a file of a few
kilobytes declares with gigabytes. So a small process opens the file first, under a limit of time, and tells the sizes
that it declares; it walks every index of chunks, and reads files of up to 64 MiB whole. The process stays for the next
file: the first costs about half a second, further ones a few milliseconds. Larger files are not read twice.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from anydiff.data.reading import Source, check_declared_size, check_file_size, located, reading
from anydiff.errors import FileFormatError
from anydiff.optional import missing

SECONDS = 5.0
"""Time that opening a file may take, beyond one second per 20 MB that are read."""
WHOLE_BYTES = 64 << 20
"""Files up to this size are read whole by the process that looks first."""
START_SECONDS = 60.0
_known: set[tuple[str, int, int, int, bool]] = set()


def check_hdf5(
    path: Source, what: str = "an HDF5 file", advice: str = "get it again", *, in_memory: bool = True
) -> None:
    """Refuse an HDF5 file that cannot be opened, never ends, asks for too much memory, or holds complex numbers.

    Numbers that stand in other files (external links and storage, virtual arrays) are refused as well: a file from
    elsewhere could name any file of this machine, and one that is gone would be read as fill values. So are links that
    lead nowhere.

    Args:
        path: the file.
        what: what it should be: ``"a NetCDF file"``.
        advice: the fix.
        in_memory: whether it will be read whole; otherwise some rows at a time, and only a chunk is bounded.

    Raises:
        AnydiffError: it does not exist or may not be read.
        FileFormatError: as above; names the array.
    """
    size = check_file_size(path, 1 << 62)
    with reading(path, what, advice):
        status = os.stat(path)
        with open(path, "rb"):
            pass  # may it be read?
    key = (os.path.abspath(path), status.st_ino, status.st_size, status.st_mtime_ns, in_memory)
    if key in _known:
        return
    answer = _scout.ask({"path": os.path.abspath(path)}, SECONDS + min(size, WHOLE_BYTES) / 20e6)
    if answer is None:
        raise FileFormatError(f"{located(path)} did not end opening within {SECONDS:g} s, so it is damaged; {advice}.")
    if answer["elsewhere"]:
        raise FileFormatError(
            f"{located(path)} does not hold all of its numbers: {answer['elsewhere'][0]}; write them into the file, "
            "with h5py."
        )
    for array in answer["arrays"]:
        name = f"its array {array['name']!r} of shape {tuple(array['shape'])}"
        if in_memory:
            check_declared_size(array["bytes"], path, name, size)
        check_declared_size(array["chunk"], path, f"one chunk of {name}", size)
        if array["complex"]:
            raise FileFormatError(
                f"{array['name']!r} of {located(path)} is {array['type']}, but must be real numbers; store real and "
                "imaginary parts apart."
            )
    if in_memory:
        check_declared_size(sum(array["bytes"] for array in answer["arrays"]), path, "all that it holds", size)
    if answer["error"]:
        raise FileFormatError(f"{located(path)} cannot be read as {what} ({answer['error']}); {advice}.")
    _known.add(key)


class _Scout:
    """The process that looks first: one per process, begun with the first question and again after it was killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.owner = 0
        self.lock = threading.Lock()

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """Its answer, or None if it took longer or died."""
        with self.lock:
            if self.process is None or self.owner != os.getpid() or self.process.poll() is not None:
                self._start()
            process = self.process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
            finally:
                timer.cancel()
            if not line.endswith("\n"):
                self.stop()
                return None
            answer: dict[str, Any] = json.loads(line)
            return answer

    def _start(self) -> None:
        if self.owner == os.getpid():
            self.stop()
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from anydiff.data.hdf5 import answer_questions; answer_questions()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        self.owner = os.getpid()
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        timer.cancel()
        if ready != "ready\n":
            self.stop()
            raise missing("reading HDF5", "h5py", "h5py", reason="a process that imports it ended")

    def stop(self) -> None:
        """End the process, if it is this process's own."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_scout = _Scout()
atexit.register(_scout.stop)


# In the child -------------------------------------------------------------------------------------------------------


def answer_questions() -> None:
    """Answer questions from standard input until it ends: the body of the process that looks first."""
    import h5py  # noqa: F401  (so that the first question is as fast as the others)

    with contextlib.suppress(ImportError, OSError, ValueError):  # no such limits on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(describe(json.loads(line)["path"])), flush=True)


def describe(path: str) -> dict[str, Any]:
    """What an HDF5 file declares: its arrays with name, shape and bytes; and the error of reading it, if any."""
    import h5py

    arrays: list[dict[str, Any]] = []
    elsewhere: list[str] = []
    error = ""
    try:
        with h5py.File(path, "r") as file:

            def visit(name: str, item: Any) -> None:
                dict(item.attrs)
                if isinstance(item, h5py.Dataset):
                    arrays.append(_about(name, item))

            dict(file.attrs)
            file.visititems_links(lambda name, link: elsewhere.extend(_leads_away(file, name, link)))
            file.visititems(visit)
            elsewhere += [f"its array {each['name']!r}{each['origin']}" for each in arrays if each["origin"]]
            affordable = sum(array["bytes"] + array["chunk"] for array in arrays) <= 8 * WHOLE_BYTES
            if Path(path).stat().st_size <= WHOLE_BYTES and affordable and not elsewhere:
                for array in arrays:
                    file[array["name"]][()]
    except Exception as caught:  # the library has many kinds
        error = " ".join(str(caught).split())[:160] or type(caught).__name__
    return {"arrays": arrays, "elsewhere": elsewhere, "error": error}


def _leads_away(file: Any, name: str, link: Any) -> list[str]:
    """What is wrong with the link ``name``: it leads to another file, or nowhere."""
    import h5py

    if isinstance(link, h5py.ExternalLink):
        return [f"its link {name!r} leads to another file, {link.filename!r}"]
    if isinstance(link, h5py.SoftLink):
        try:
            file[name]
        except Exception:  # KeyError, or a loop of links
            return [f"its link {name!r} leads to {link.path!r}, where nothing is"]
    return []


def _origin(item: Any) -> str:
    """Where else the numbers of an array stand; empty where in the file itself."""
    others = [storage[0] for storage in item.external or ()]
    if item.is_virtual:
        others += [source.file_name for source in item.virtual_sources() if source.file_name != "."]
    return f" takes its numbers from another file, {others[0]!r}" if others else ""


def _about(name: str, item: Any) -> dict[str, Any]:
    shape = [int(size) for size in item.shape or ()]
    itemsize = int(item.dtype.itemsize)
    total, chunk = itemsize, itemsize if item.chunks else 0
    for size in shape:
        total *= size
    for size in item.chunks or ():
        chunk *= int(size)
    if item.chunks:
        item.id.chunk_iter(lambda _: None)  # a damaged index shows here
    return {
        "name": name,
        "origin": _origin(item),
        "shape": shape,
        "bytes": total,
        "chunk": chunk,
        "type": str(item.dtype),
        "complex": item.dtype.kind == "c",
    }

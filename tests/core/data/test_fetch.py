"""The cache and the clients: checksums, nothing twice, interruptions, licences. Clients are scripts made here."""

import hashlib
import os
import stat
import sys

import pytest

from anydiff.data import cache, fetch
from anydiff.data.ledger import Container, LedgerRow, rows_of
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.registry import Entry

CONTENT = b"the very bytes of the container" * 1000


def container(kind="npm", file="thing-1.0.tgz", content=CONTENT):
    return Container(kind, "thing", "1.0", file, len(content), hashlib.sha256(content).hexdigest(), ("a",))


def row(restricted=False, **options):
    return LedgerRow("x/thing", "Thing", "MIT", "nowhere", container=container(**options), restricted=restricted)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache of its own, and a folder first in PATH for clients."""
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def client(place, name, body):
    script = place / "bin" / name
    script.write_text(f"#!{sys.executable}\nimport os, pathlib, sys\nlog = open({str(place / 'calls')!r}, 'a')\n")
    with script.open("a") as file:
        file.write(f"print(*sys.argv[1:], file=log, flush=True)\ncontent = {CONTENT[:31]!r} * 1000\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def calls(place):
    return (place / "calls").read_text().splitlines() if (place / "calls").exists() else []


def test_a_container_is_fetched_once_with_the_pinned_version(place):
    client(place, "npm", "pathlib.Path('thing-1.0.tgz').write_bytes(content)")
    steps = []
    path, cached = fetch.get(row(), progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert not cached
    assert fetch.get(row()) == (path, True)
    assert calls(place) == ["pack thing@1.0 --ignore-scripts --silent"]
    assert cache.is_cached(row())
    assert cache.cached_container(row()) == path
    assert ("checking", len(CONTENT), len(CONTENT)) in steps
    assert not (cache.data_folder() / "staging" / "thing-1.0.tgz").exists()


def test_other_bytes_are_refused_and_not_cached(place):
    client(place, "npm", "pathlib.Path('thing-1.0.tgz').write_bytes(content[:-1] + b'X')")
    with pytest.raises(FileFormatError, match="sha256"):
        fetch.get(row())
    assert not cache.is_cached(row())
    client(place, "npm", "pathlib.Path('thing-1.0.tgz').write_bytes(content)")
    assert fetch.get(row())[0].read_bytes() == CONTENT, "bad bytes left in staging do not block the next try"


def test_what_an_interrupted_run_fetched_whole_is_used(place):
    client(place, "npm", "sys.exit('must not be called')")
    staging = cache.data_folder() / "staging" / "thing-1.0.tgz"
    staging.mkdir(parents=True)
    (staging / "thing-1.0.tgz").write_bytes(CONTENT)
    assert fetch.get(row())[0].read_bytes() == CONTENT
    assert calls(place) == []


def test_a_failing_client_is_quoted(place):
    client(place, "npm", "sys.exit('network is unreachable')")
    with pytest.raises(AnydiffError, match=r"npm could not fetch thing 1.0 \(network is unreachable\).*--from"):
        fetch.get(row())


def test_a_missing_client_is_named(place, monkeypatch):
    monkeypatch.setenv("PATH", str(place / "bin"))
    with pytest.raises(AnydiffError, match="needs apt-get, which is not installed"):
        fetch.get(row(kind="debian", file="thing.deb"))


def test_apt_names_its_file_as_it_likes(place):
    client(place, "apt-get", "pathlib.Path('thing_1.0%3a_all.deb').write_bytes(content)")
    path, _ = fetch.get(row(kind="debian", file="thing_1.0_all.deb"))
    assert path.name == "thing_1.0_all.deb"
    assert calls(place) == ["download thing=1.0"]


def test_pip_is_given_the_hash(tmp_path):
    wheel = fetch.client_command(container("pypi", "thing-1.0-py3-none-any.whl"), tmp_path)
    assert {"--no-deps", "--only-binary", "--require-hashes"} <= set(wheel)
    assert "--no-binary" in fetch.client_command(container("pypi", "thing-1.0.tar.gz"), tmp_path)


def test_from_a_file(place):
    copy = place / "copy.tgz"
    copy.write_bytes(CONTENT)
    path, cached = fetch.get(row(), source=copy)
    assert (path.read_bytes(), cached) == (CONTENT, False)
    copy.write_bytes(CONTENT + b"!")
    with pytest.raises(FileFormatError, match="31001 bytes"):
        fetch.get(row(file="other.tgz"), source=copy)
    with pytest.raises(AnydiffError, match="does not exist"):
        fetch.get(row(file="other.tgz"), source=place / "none")


def test_a_cached_file_that_changed_is_refused_and_replaced(place):
    copy = place / "copy.tgz"
    copy.write_bytes(CONTENT)
    path, _ = fetch.get(row(), source=copy)
    path.write_bytes(CONTENT[:-1] + b"X")
    with pytest.raises(FileFormatError, match="sha256"):
        cache.cached_container(row())
    assert fetch.get(row(), source=copy)[1] is False
    assert path.read_bytes() == CONTENT


def test_terms_are_accepted_once(place):
    copy = place / "copy.tgz"
    copy.write_bytes(CONTENT)
    with pytest.raises(AnydiffError, match="--accept-licence"):
        fetch.get(row(restricted=True), source=copy)
    assert not cache.is_cached(row())
    fetch.get(row(restricted=True), source=copy, accept=True)
    cache.container_path(container()).unlink()
    fetch.get(row(restricted=True), source=copy)


def test_not_fetched_yet_names_the_command(place):
    with pytest.raises(AnydiffError, match="anydiff data get x/thing"):
        cache.cached_container(row())
    with pytest.raises(AnydiffError, match="no container"):
        cache.cached_container(LedgerRow("x/b", "B", "MIT", "here", bundled="all"))


def test_rows_come_from_entries():
    import types

    module = types.ModuleType("ledger_of_a_test")
    module.THING = row()
    sys.modules["ledger_of_a_test"] = module
    try:
        entries = [Entry("datasets", "x/thing", "", "m:a", "x", {"ledger": "ledger_of_a_test:THING"})]
        entries.append(Entry("datasets", "x/none", "", "m:a", "x", {}))
        assert rows_of(entries) == {"x/thing": row()}
        broken = [Entry("datasets", "x/thing", "", "m:a", "x", {"ledger": "ledger_of_a_test:NONE"})]
        with pytest.raises(AnydiffError, match="NONE"):
            rows_of(broken)
    finally:
        del sys.modules["ledger_of_a_test"]


def test_a_malformed_row_is_refused():
    with pytest.raises(UnknownNameError, match="npm"):
        Container("npn", "a", "1", "a.tgz", 1, "0" * 64)
    with pytest.raises(AnydiffError, match="sha256"):
        Container("npm", "a", "1", "a.tgz", 1, "abc")


def test_a_folder_that_goes_while_it_is_counted_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "kept").write_bytes(b"12345")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "gone").write_bytes(b"678")
    scan = os.scandir

    def vanishing(path):
        if str(path).endswith("build"):
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert fetch._size(tmp_path) == 5
    assert fetch._size(tmp_path / "nowhere") == 0

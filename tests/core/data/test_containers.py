"""Archive members as bytes, from hand-made archives."""

import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from anydiff.data.containers import read_members
from anydiff.errors import AnydiffError, FileFormatError

FILES = {"package/a.txt": b"alpha", "package/b.bin": bytes(range(256))}


def tar_bytes(mode="w", prefix=""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def ar_bytes(members):
    """deb(5): an ar archive, odd members padded by one byte."""
    out = b"!<arch>\n"
    for name, content in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return out


@pytest.fixture
def archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    (tmp_path / "x.tgz").write_bytes(tar_bytes("w:gz"))
    (tmp_path / "x.tar").write_bytes(tar_bytes())
    (tmp_path / "x.tar.xz").write_bytes(tar_bytes("w:xz"))
    payload = lzma.compress(tar_bytes(prefix="./"))
    members = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", payload)]
    (tmp_path / "x.deb").write_bytes(ar_bytes(members))
    return tmp_path


@pytest.mark.parametrize("name", ["x.whl", "x.tgz", "x.tar", "x.tar.xz", "x.deb"])
def test_members_are_read_exactly(archives, name):
    assert read_members(archives / name, FILES) == FILES
    assert read_members(archives / name, ["package/b.bin"]) == {"package/b.bin": FILES["package/b.bin"]}
    with pytest.raises(FileFormatError, match=r"no member 'package/c.txt'"):
        read_members(archives / name, ["package/c.txt"])


@pytest.mark.parametrize("name", ["x.whl", "x.tgz", "x.tar", "x.tar.xz", "x.deb"])
def test_truncated_archives_are_named(archives, name):
    path = archives / name
    # An uncompressed tar is padded far beyond its content: cut inside the last file instead.
    keep = 1650 if name == "x.tar" else path.stat().st_size * 2 // 5
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"x\."):
        read_members(path, FILES)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(AnydiffError, match="does not exist"):
        read_members(tmp_path / "none.whl", ["a"])
    for name in ("notes.txt", "fake.deb", "fake.tgz"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(FileFormatError, match=name):
            read_members(tmp_path / name, ["a"])


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_a_package_made_by_dpkg(tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    )
    (root / "usr").mkdir()
    (root / "usr" / "data.bin").write_bytes(b"payload")
    for method in ("xz", "zstd"):  # Python 3.11 has no zstd: that one goes through dpkg-deb
        package = tmp_path / f"{method}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", f"-Z{method}", "--build", str(root), str(package)],
            check=True,
            capture_output=True,
        )
        assert read_members(package, ["usr/data.bin"]) == {"usr/data.bin": b"payload"}

"""Folders from a hub: a server on loopback, the real client; pinned, checked, code and pickles left out."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading

import pytest
import torch
from safetensors.torch import save_file

from anydiff.cli.main import run
from anydiff.data import hub
from anydiff.errors import AnydiffError, FileFormatError

client = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (anydiff[hub])")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(http.server.BaseHTTPRequestHandler):
    """The few addresses of a hub that a pull asks."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self):
        if self.path.startswith("/api/models/org/model/revision/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            self._send(json.dumps({
                "id": "org/model", "modelId": "org/model", "sha": COMMIT, "siblings": siblings,
                "cardData": {"license": "mit"}, "tags": [], "private": False, "downloads": 0, "likes": 0,
            }).encode(), "application/json")  # fmt: skip
        elif self.path.startswith(f"/org/model/resolve/{COMMIT}/"):
            name = self.path.rpartition(f"{COMMIT}/")[2].partition("?")[0]
            self._send(self.files[name], "application/octet-stream") if name in self.files else self._missing()
        else:
            self._missing()

    do_HEAD = do_GET

    def _send(self, data, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _missing(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *given):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub on loopback; the files that it holds."""
    weights = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(3)}, weights, metadata={"format": "pt"})
    Server.files = {
        "diffusion_pytorch_model.safetensors": weights.read_bytes(),
        "config.json": b'{"_class_name": "UNet2DModel"}',
        "README.md": b"# A card",
        "modeling.py": b"raise SystemExit",
        "old.bin": b"\x80\x02.",
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    from huggingface_hub import constants, hf_api

    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(client.HfApi, "__init__", _with(hf_api.HfApi.__init__, address))
    yield Server.files
    server.shutdown()
    server.server_close()


def _with(original, address):
    def init(self, *given, **options):
        original(self, *given, **{"endpoint": address, **options})

    return init


def test_a_pull_is_pinned_and_leaves_code_and_pickles_out(served, capsys):
    assert run(["pull", "org/model"]) == 0
    said = capsys.readouterr()
    assert "licence mit" in said.err
    assert "2 left out (modeling.py, old.bin)" in said.err
    folder = hub.pulled_folder("org/model")
    assert said.out.strip() == str(folder)
    assert folder.name == COMMIT
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {"diffusion_pytorch_model.safetensors", "config.json", "README.md", hub.MANIFEST}
    assert not hub.pull("org/model@main").fresh
    assert hub.pulled_folder(f"org/model@{COMMIT}") == folder


def test_a_file_that_changed_is_refused(served):
    folder = hub.pull("org/model").folder
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(
        FileFormatError, match=r"config\.json.* has sha256 44136fa355b3678a, but 'org/model' was pulled"
    ):
        hub.pulled_folder("org/model")
    with pytest.raises(FileFormatError, match="delete the folder and pull it again"):
        hub.pull("org/model")


def test_only_pickled_weights_are_not_fetched(served, tmp_path):
    del served["diffusion_pytorch_model.safetensors"]
    with pytest.raises(AnydiffError, match=r"holds no \.safetensors file"):
        hub.pull("org/model")
    assert not list((tmp_path / "home").rglob("config.json"))


@pytest.mark.parametrize("name", ["model", "../org/model", "org/..", "org/model@../x", "org/a b", "/org/model"])
def test_names_that_are_none(name):
    with pytest.raises(AnydiffError, match="no name on a hub"):
        hub.pull(name)


def test_what_is_not_there_is_one_sentence(served, tmp_path):
    with pytest.raises(AnydiffError, match=r"cannot pull 'org/other' at 'main' .* check name and connection, or copy"):
        hub.pull("org/other")
    with pytest.raises(AnydiffError, match="was not pulled; run `anydiff pull org/model@v2` first"):
        hub.pulled_folder("org/model@v2")

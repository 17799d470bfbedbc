"""A broken package beside a library does not keep the library away."""

import subprocess
import sys


def test_a_torchvision_that_cannot_be_imported_counts_as_none(tmp_path):
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken)
    (tmp_path / "uses_it.py").write_text(
        "import importlib.util\n"
        "HAS = importlib.util.find_spec('torchvision') is not None\n"
        "if HAS:\n"
        "    import torchvision\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from anydiff_adapters.libraries import imported\n"
        "assert imported('uses_it', 'a test', 'uses-it').HAS is False\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

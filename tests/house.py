"""The checkout as the tests about the whole house see it: its modules, and a copy that a command may write into."""

import ast
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(file.relative_to(ROOT) for file in (ROOT / "spf").rglob("*.py"))
NOT_SOURCES = (".*", "__pycache__", "build", "dist", "*.egg-info", "runs", "models", "lightning_logs")


def module_name(file: Path) -> str:
    """spf/a/b.py -> spf.a.b, spf/a/__init__.py -> spf.a."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def syntax(file: Path) -> ast.Module:
    """The tree of one module of MODULES."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def copy_checkout(to: Path) -> Path:
    """The sources alone, tracked or not yet: no environment, no runs, no caches, nothing a build has left."""
    return Path(shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*NOT_SOURCES)))


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, whatever the exit status; without the variables by which an outer make would speak to it."""
    made = ("MFLAGS", "ARGS", "BASE", "SEED", "QUICK")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key not in made}
    return subprocess.run(command, cwd=cwd, env=inherited | environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

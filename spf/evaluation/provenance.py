"""Where a number comes from: versions, commit, date."""

import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("spf-portrait", "torch", "torchvision", "lightning", "diffusers", "transformers", "open-clip-torch",
            "torchmetrics", "lpips", "insightface", "onnxruntime", "segment-anything", "numpy", "pillow")


def provenance() -> dict[str, Any]:
    """For JSON."""
    return {"date": str(date.today()), "commit": _commit(), "python": platform.python_version(),
            "versions": {name: found for name in PACKAGES if (found := _version(name))}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Of the checkout that this file lies in, "+" where it has been changed since; "" where there is none."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head, changed = (subprocess.run([*git, *asked], capture_output=True, text=True, check=True).stdout.strip()
                         for asked in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "-uno"]))
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + "+" * bool(changed)

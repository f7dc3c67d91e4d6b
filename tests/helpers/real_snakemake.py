"""Running the installed snakemake on a checkout, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin `snakemake ARGUMENTS` in a folder, without MLflow."""
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "VOSREPRO_MLFLOW": "off",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [str(BIN / "snakemake"), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def snakemake(folder: Path, *arguments: str, expect: int = 0) -> str:
    """What `snakemake ARGUMENTS` prints; fails if its status is not `expect`."""
    with start(folder, *arguments) as process:
        try:
            output, _ = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == expect, output[-4000:]
    return output

"""The typed surface: a user's program passes mypy, strictly, and its two mistakes are found."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "typing" / "user_code.py"


@pytest.mark.slow
def test_a_users_program_passes_mypy() -> None:
    """With the settings and the cache of the project: without one, mypy reads torch and pandas for a minute."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(PROGRAM)],
        cwd=PROGRAM.parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Success" in done.stdout

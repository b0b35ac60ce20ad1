"""Requirements of setup.cfg, extras for the tests included, but for torch and what cannot do without it."""

from __future__ import annotations

import configparser
import re
import sys

NEED_TORCH = {"accelerate", "demucs", "lightning-fabric", "torch", "transformers"}
NO_WHEELS = {"essentia"}  # for every interpreter
NOT_FOR_TESTS = {"mypy", "pandas-stubs", "ruff", "tensorboard", "types-pyyaml", "types-tqdm"}
LEFT_OUT = NEED_TORCH | NO_WHEELS | NOT_FOR_TESTS


def main(path: str) -> None:
    """Print them, one a line."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(path)
    blocks = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = {line.strip() for block in blocks for line in block.splitlines()}
    named = {line: re.split(r"[^\w-]", line)[0].lower() for line in lines if line and not line.startswith("%")}
    print("\n".join(sorted(line for line, name in named.items() if name not in LEFT_OUT)))


if __name__ == "__main__":
    main(sys.argv[1])

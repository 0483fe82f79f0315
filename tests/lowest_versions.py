"""Print the lowest versions that pyproject.toml allows, as constraints for pip: `make lowest-test`.

torch is left out: it is large, and the oldest one has no wheels for newer Pythons.
"""

import re
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]

for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["heif"]]:
    found = re.match(r"([\w-]+)>=([\d.]+)", requirement)
    if found and found[1] != "torch":
        print(f"{found[1]}=={found[2]}.*")

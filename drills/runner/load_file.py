"""The load as one file that any Python from 3.10 on runs: a zip with drills/load, its records and h11.

It is made of the installed packages whenever a load starts, so it is never another version than the one that reads the records.

    python3 -m drills.runner.load_file > load.pyz
"""

from __future__ import annotations

import io
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import h11

import drills

MAIN = """\
import sys

if sys.version_info < (3, 10):
    sys.exit("load: it needs Python 3.10 or newer, and this is %d.%d: give another image" % sys.version_info[:2])
from drills.load.__main__ import main

sys.exit(main(sys.argv[1:]))
"""
OURS = ("__init__.py", "records.py", "load")
"""What the load needs of drills/."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def make() -> bytes:
    """Return the file; the same packages make the same bytes."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        _add(archive, "__main__.py", MAIN.encode())
        for folder, parts in ((Path(drills.__file__).parent, OURS), (Path(h11.__file__).parent, (".",))):
            for file in _files(folder, parts):
                _add(archive, str(file.relative_to(folder.parent)), file.read_bytes())
        for licence in (file for file in metadata.files("h11") or () if file.name.startswith("LICENSE")):
            _add(archive, f"h11/{licence.name}", licence.read_binary())
    return found.getvalue()


def _files(folder: Path, parts: tuple[str, ...]) -> list[Path]:
    found = [file for part in parts for file in ((folder / part).rglob("*.py") if (folder / part).is_dir() else [folder / part])]
    return sorted(file for file in found if "tests" not in file.relative_to(folder).parts)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    sys.stdout.buffer.write(make())

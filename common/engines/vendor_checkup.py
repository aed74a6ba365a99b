"""What one vendor folder needs of this machine, for `make doctor`. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import environment
from common.basics.memory import PLANNED_SHARE, machine_bytes
from common.basics.wording import size_in_words
from common.engines.machine_facts import Engine, architecture, processor_features

ENVIRONMENTS = Path(".venv")
CONTAINERS = ("docker", "podman")


class Lack(NamedTuple):
    """Something that is not here. fatal: the chip cannot be compiled on this machine until the cure is done; else make
    does it by itself, or only a part of it is missing."""

    cure: str
    fatal: bool


class Environment(NamedTuple):
    """A vendor folder's own environment. python: the interpreter to make it with; None where this machine has none."""

    made: bool
    python: str | None


def made(name: str, sources: Sequence[str | Path]) -> bool:
    """Whether .venv/<name> is complete and no older than what it is made from."""
    return environment.is_ready(ENVIRONMENTS / name, [*map(Path, sources), Path(environment.__file__)])


class VendorFolder:
    """vendors/<name>, as its chip.yaml describes it (common/engines/machine_facts.py, declared)."""

    def __init__(self, folder: Path, keys: dict[str, list[str]]):
        self.folder, self.keys = folder, keys
        self.name = folder.name
        chips = keys.get("chips") or [self.name]
        self.chip = chips[0]
        self.title = f"{self.chip} and {len(chips) - 1} more" if len(chips) > 1 else self.chip
        self.demo = keys.get("demo") == ["true"]
        self.local = "local" in keys.get("engines", [])
        self.containers = [name for name in keys.get("engines", []) if name in CONTAINERS]

    def environment(self) -> Environment:
        """Looks for the environment, and for a Python to make it with where it is not there."""
        if not self.local:
            return Environment(False, None)
        further = ("requirements-no-deps.txt", ".python-version", "after_install.py")
        sources = [path for name in ("requirements.txt", *further) if (path := self.folder / name).exists()]
        if made(self.name, sources):
            return Environment(True, None)
        wanted = self.folder / ".python-version"
        if not wanted.exists():
            return Environment(False, "the one that make calls")
        return Environment(False, environment.choose_python(environment.read_versions(wanted))[0])

    def detail(self, found: Environment | None, engines: Sequence[Engine]) -> str:
        """What is here of what it is compiled with."""
        here = [f"{ENVIRONMENTS / self.name} is made"] if found and found.made else []
        here += [f"image {image} is built" for image in self._images(engines)[:1]]
        if here:
            return ", ".join(here)
        return f"{ENVIRONMENTS / self.name} is not made yet" if self.local else "in a container; its image is not built"

    def lacks(self, found: Environment | None, engines: Sequence[Engine]) -> list[Lack]:
        """What is missing, the worst first."""
        usable = [engine.name for engine in engines if engine.name in self.containers]
        lacks = [*self._processor(), *self._memory(), *self._sdk_files()]
        lacks += self._local(found, usable) if self.local else self._container(usable, engines)
        return sorted(lacks, key=lambda lack: not lack.fatal)

    def _images(self, engines: Sequence[Engine]) -> list[str]:
        """Those that make built, under the content of their folder; it builds another one when that changed."""
        name = re.compile(rf"npumake-{re.escape(self.name)}:[0-9a-f]{{12}}")
        return [image for engine in engines for image in engine.images if name.fullmatch(image)]

    def _processor(self) -> list[Lack]:
        wanted = (self.keys.get("platform") or [""])[0].rpartition("/")[2]
        if wanted and wanted != architecture():
            cure = f"its SDK is for {wanted} only, this machine is {architecture()}: compile on another one"
            return [Lack(f"{cure} (DOCKER_HOST=ssh://..., or make job)", True)]
        features = processor_features()
        absent = [name for name in self.keys.get("cpu", []) if features is not None and name not in features]
        if not absent:
            return []
        cure = f"its SDK needs {', '.join(absent)}, which this processor lacks: use another machine; in a virtual one"
        return [Lack(f"{cure} pass the host's processor through (QEMU: -cpu host)", True)]

    def _memory(self) -> list[Lack]:
        pairs = dict(word.split(":", 1) for word in self.keys.get("memory", []) if ":" in word)
        megabytes = pairs.get("megabytes", "").strip()
        needed = float(megabytes) * 1e6 if megabytes.replace(".", "", 1).isdecimal() else 0.0
        have = machine_bytes() * PLANNED_SHARE
        if needed <= have:
            return []
        cure = f"its compiler takes {size_in_words(needed)} and more, {size_in_words(have)} can be planned with"
        return [Lack(f"{cure}: close other programs, or use another machine", False)]

    def _sdk_files(self) -> list[Lack]:
        """Files that the user has to lay into the folder: {precision: pattern}."""
        pairs = [word.split(":", 1) for word in self.keys.get("files", []) if ":" in word]
        absent: dict[str, list[str]] = {}
        for precision, pattern in pairs:
            if not list(self.folder.glob(pattern.strip())):
                absent.setdefault(pattern.strip(), []).append(precision.strip())
        lacks = []
        for pattern, precisions in absent.items():
            every = set(precisions) == set(self.keys.get("precisions", []))
            use = "" if every else f"; only {', '.join(precisions)} needs it"
            cure = f"lay {self.folder}/{pattern} there{use} ({self.folder}/README.md says where it is offered)"
            lacks.append(Lack(cure, every))
        return lacks

    def _local(self, found: Environment | None, usable: Sequence[str]) -> list[Lack]:
        if found is None:
            place = ENVIRONMENTS / self.name
            return [Lack(f"{place} did not answer in time: make {place}/ready tells more", False)]
        if found.made:
            return []
        if found.python is not None:
            return [Lack(f"the first make {self.chip} installs it (some minutes)", False)]
        versions = environment.read_versions(self.folder / ".python-version")
        cure = f"install CPython {' or '.join(versions)}: apt install python{versions[0]} python{versions[0]}-venv; or "
        cure += f"pyenv install {versions[0]}; or uv python install {versions[0]}"
        return [Lack(cure + (f"; or ENGINE={usable[0]}, which needs none" if usable else ""), not usable)]

    def _container(self, usable: Sequence[str], engines: Sequence[Engine]) -> list[Lack]:
        if usable:
            cure = f"the first make {self.chip} builds it; make image CHIP={self.chip} does only that"
            return [] if self._images(engines) else [Lack(cure, False)]
        cure = (
            f"its SDK lives in a container: {' or '.join(self.containers)} is needed, see above; until then DOUBLE=1 "
        )
        return [Lack(cure + "tries the chain with a stand-in, and make job packs its input for another machine", True)]

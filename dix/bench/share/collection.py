"""A folder of packs that many people fill: where a pack lies, what it must be, and what may be said of it.

    COLLECTION/MODEL/DATASET/PROTOCOL/NAME-DIGEST.pack              one run each
    COLLECTION/MODEL/DATASET/PROTOCOL/NAME-DIGEST.verified-*.json   what others recomputed of it
    COLLECTION/printed/*.json                                       values that publications print
    COLLECTION/index.json                                           what is there, written by `submit`

Nothing that a file says of itself is believed: scores are computed from its rows whenever the collection is read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dix.bench.report.compare import ResultSet
from dix.bench.share import container
from dix.bench.share.container import BadPack, Pack
from dix.bench.share.pack import looked_into, pack
from dix.bench.share.printed import Printed, read_printed
from dix.bench.share.summaries import inconsistencies
from dix.bench.share.verification import Verification, records_of
from dix.bench.store.cells import Group, file_name, group_of
from dix.bench.store.errors import differing
from dix.bench.store.results import ResultStore
from dix.bench.tables.samples import Block, of_protocol
from dix.bench.tables.standings import RankDraws, block_ranks
from dix.bench.tables.table import Table
from dix.files import atomic, write_atomic

#: Methods that every run must have, or say why the network cannot have them: without them scores have no yardstick.
REFERENCES = ("random", "gc")
#: What may be said of a result, from least to most.
BADGES = ("printed", "reported", "consistent", "verified")
SUFFIX, PRINTED, INDEX = ".pack", "printed", "index.json"
#: Differences that are named.
NAMED = 5

#: What a store's rows give, as tables; the caller knows the metrics' configurations.
Look = Callable[[ResultStore], ResultSet]
#: The version of a protocol as it is configured here; None where it is not.
VersionOf = Callable[[str], int | None]


@dataclass(frozen=True)
class Entry:
    """One run of a collection.

    group: its model, data set and protocol. table: what its rows give. ranks: mean ranks of its methods, None where
    nothing is ranked. faults: what it says of its rows and they do not give. verifications: what others recomputed;
    disputed: records that do not hold, with the reason. costs: seconds an image by method; machines: where.
    skipped: methods that the network cannot have.
    """

    pack: Pack
    group: Group
    table: Table
    ranks: RankDraws | None
    faults: tuple[str, ...]
    verifications: tuple[Verification, ...]
    disputed: tuple[str, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    machines: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def badge(self) -> str:
        """What may be said of it: see BADGES."""
        if self.faults:
            return BADGES[1]
        return BADGES[3] if self.verifications else BADGES[2]

    @property
    def block(self) -> Block:
        """The block of tables that it is."""
        return Block(self.group.protocol, self.group.dataset, self.group.model)

    @property
    def about(self) -> Mapping[str, Any]:
        """What its manifest says of its rows."""
        found: Mapping[str, Any] = self.pack.manifest["groups"][0]
        return found

    @property
    def name(self) -> str:
        """What its author called it."""
        return str(self.pack.manifest["name"])


@dataclass(frozen=True)
class Collection:
    """All that a collection holds. refused: files that are not shown, with the reason, by path in the collection."""

    folder: Path
    entries: tuple[Entry, ...]
    printed: tuple[Printed, ...]
    refused: Mapping[str, str]


def place(group: Group, name: str, digest: str) -> Path:
    """Where a pack lies in a collection."""
    return Path(*map(_folder, (group.model, group.dataset, group.protocol)), f"{name}-{digest[:12]}{SUFFIX}")


def _folder(name: str) -> str:
    """A name as a folder's: as it is where every system takes it so, and it is none of the collection's own."""
    plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*", name, re.ASCII) and name.lower() != PRINTED
    return name if plain else file_name(name).lstrip("-")


def examined(path: Path, look: Look) -> Entry:
    """One run with all that may be said of it. Raises BadPack where its file is no pack of one run."""
    with looked_into(path) as (found, store):
        groups = [group_of(one) for one in found.manifest["groups"]]
        if len(groups) != 1:
            raise BadPack(f"{path}: it holds {len(groups)} runs; `dix submit` puts each into a file of its own")
        results = look(store)
        held, disputed = records_of(found, store)
        records = store.read_json("provenance")
        return Entry(
            found,
            groups[0],
            results.table,
            _ranks(results),
            tuple(inconsistencies(found.manifest["summaries"], results.table)),
            tuple(held),
            tuple(disputed),
            _costs(records),
            tuple(sorted({str(record.get("device", "")) for record in records} - {""})),
            tuple(sorted(str(record["method"]) for record in store.read_json("skips"))),
        )


def _ranks(results: ResultSet) -> RankDraws | None:
    """The mean ranks of the only block of a run."""
    [(protocol, plan)] = results.plans.items()
    evidence = replace(results.evidence, rows=of_protocol(results.evidence.rows, protocol))
    return next(iter(block_ranks(evidence, plan, results.table.bootstrap).values()), None)


def _costs(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds an image by method, over all jobs of a run that say it."""
    seconds: dict[str, float] = {}
    images: dict[str, int] = {}
    for record in records:
        cost = record["cost"]
        count, phases = cost.get("images"), cost.get("seconds")
        for phase, spent in phases.items() if isinstance(phases, dict) and isinstance(count, int) else ():
            word, _, method = str(phase).partition(" ")
            if word == "explain" and isinstance(spent, int | float) and 0 <= spent < 1e12 and 0 < count < 1e12:
                seconds[method] = seconds.get(method, 0.0) + spent
                images[method] = images.get(method, 0) + count
    return {method: spent / images[method] for method, spent in seconds.items()}


def objections(entry: Entry, others: Sequence[Entry], version_of: VersionOf) -> list[str]:
    """Why a run cannot stand beside the others, a line each. version_of: see VersionOf."""
    return [*_protocol(entry, version_of), *_references(entry), *_doubles(entry, others), *_clashes(entry, others)]


def _protocol(entry: Entry, version_of: VersionOf) -> Iterator[str]:
    known, own = version_of(entry.group.protocol), entry.about["protocol_version"]
    if known is not None and known != own:
        yield f"protocol {entry.group.protocol} is version {own} in it and {known} here: run it again"


def _references(entry: Entry) -> Iterator[str]:
    missing = sorted({*REFERENCES} - {*entry.about["methods"], *entry.skipped})
    if missing:
        yield f"it lacks {', '.join(missing)}, which every run must have (method=[...,{','.join(missing)}])"


def _doubles(entry: Entry, others: Sequence[Entry]) -> Iterator[str]:
    for other in others:
        if other.group == entry.group and other.about["digest"] == entry.about["digest"]:
            yield f"its rows are there already, in {other.pack.path.name}"


def _clashes(entry: Entry, others: Sequence[Entry]) -> Iterator[str]:
    """Cells by the same names that mean something else; another seed is the same thing measured again."""
    own = _identities(entry)
    for other in others:
        theirs = _identities(other) if other.group == entry.group else {}
        for key in sorted(own.keys() & theirs.keys()):
            lines = differing(theirs[key], own[key])
            if lines:
                told = "; ".join(line.replace("wanted", "this one") for line in lines[:NAMED])
                yield f"{' '.join(key)} is something else in {other.pack.path.name}: {told}"
                break


def _identities(entry: Entry) -> dict[tuple[str, str], Any]:
    found = {}
    for cell in entry.table.identities:
        identity = json.loads(json.dumps(cell["identity"]))
        if isinstance(identity.get("protocol"), dict):
            identity["protocol"].pop("seed", None)
        found[str(cell["method"]), str(cell["metric"])] = identity
    return found


def read_collection(folder: Path, look: Look, version_of: VersionOf) -> Collection:
    """Everything in a collection, judged anew. A file that must not be shown is refused with the reason."""
    entries: list[Entry] = []
    refused: dict[str, str] = {}
    for path in packs(folder):
        name = path.relative_to(folder).as_posix()
        try:
            entry = examined(path, look)
            wanted = place(entry.group, entry.name, entry.pack.digest)
            against = [] if wanted.as_posix() == name else [f"expected in {wanted}"]
            against += objections(entry, entries, version_of)
        except ValueError as error:
            against = [str(error)]
        if against:
            refused[name] = "; ".join(against)
        else:
            entries.append(entry)
    printed = []
    for path in sorted((folder / PRINTED).glob("*.json")):
        try:
            printed.append(read_printed(path))
        except ValueError as error:
            refused[path.relative_to(folder).as_posix()] = str(error)
    return Collection(folder, tuple(entries), tuple(printed), refused)


def packs(folder: Path) -> list[Path]:
    """The packs of a collection, sorted; links are not followed."""
    if not folder.is_dir():
        raise ValueError(f"no collection {folder}; `dix submit PACK {folder}` begins one")
    found = (path for path in folder.glob(f"*/*/*/*{SUFFIX}") if path.is_file())
    return sorted(path for path in found if path.resolve() == folder.resolve() / path.relative_to(folder))


def submit(path: Path, folder: Path, look: Look, version_of: VersionOf) -> list[Path]:
    """Add a pack's runs to a collection, one file each, all or none; what they are called there.

    Raises ValueError that names everything that speaks against it.
    """
    with tempfile.TemporaryDirectory(prefix="dix-submit-") as scratch:
        against, targets = [], {}
        for half in split(path, Path(scratch)):
            entry = examined(half, look)
            known = [examined(p, look) for p in (packs(folder) if folder.is_dir() else []) if _beside(p, entry, folder)]
            faults = [f"its rows do not give what it says: {fault}" for fault in entry.faults[:NAMED]]
            against += [f"{entry.group.title}: {why}" for why in (*faults, *objections(entry, known, version_of))]
            targets[half] = place(entry.group, entry.name, entry.pack.digest)
        if against:
            raise ValueError("\n  ".join([f"{path} was not added to {folder}:", *against]))
        for half, target in targets.items():
            with atomic(folder / target) as new:
                shutil.copyfile(half, new)
    write_index(folder)
    return [folder / target for target in targets.values()]


def _beside(path: Path, entry: Entry, folder: Path) -> bool:
    """Whether a pack lies where the entry would."""
    return path.parent == folder / place(entry.group, "x", "0").parent


def split(path: Path, folder: Path) -> list[Path]:
    """A pack's runs as packs of one run each; a pack of one run stays as it is, byte for byte."""
    with looked_into(path) as (found, store):
        groups = [group_of(one) for one in found.manifest["groups"]]
        if len(groups) == 1:
            return [Path(shutil.copyfile(path, folder / f"run{SUFFIX}"))]
        name, said = found.manifest["name"], found.manifest["summaries"]
        pictures = any(file.startswith("images/") for file in found.manifest["files"])
        targets = [folder / f"run{number}{SUFFIX}" for number in range(len(groups))]
        return [pack(store, t, name, said, [g], pictures).path for t, g in zip(targets, groups, strict=True)]


def write_index(folder: Path) -> Path:
    """Write what the collection's packs say of themselves into one file, for programs that look for a run."""
    listed = []
    for path in packs(folder):
        found = container.read(path)
        one = found.manifest["groups"][0]
        about = {"path": path.relative_to(folder).as_posix(), "sha256": found.digest, "bytes": path.stat().st_size}
        listed.append({**about, "name": found.manifest["name"], **{k: v for k, v in one.items() if k != "digest"}})
    record = {"format": "dix-collection", "version": 1, "packs": listed}
    write_atomic(folder / INDEX, json.dumps(record, indent=1, sort_keys=True) + os.linesep)
    return folder / INDEX

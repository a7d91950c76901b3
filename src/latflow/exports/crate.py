"""What a record says of itself to machines: the metadata of an RO-Crate 1.1, JSON-LD.

The files with their kinds, sizes and checksums; the run as an action that an application of some version has
carried out, with its seed and couplings as values that went in, and files and numbers as what came out. A
licence is for those to add who publish it.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from latflow.exports.bag import Member
from latflow.exports.origin import origin
from latflow.report.circumstances import theory
from latflow.runs import Run
from latflow.validation import Validation

DESCRIPTOR = "ro-crate-metadata.json"

_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_KINDS = {
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".nc": "application/netcdf",
    ".py": "text/x-python",
    ".toml": "application/toml",
}
_WENT_IN = ("config.toml", "code/")
"""The beginnings of the names of files that the run was given."""


def day(run: Run) -> str:
    """On which a run was made, 2026-11-26: a record of it has no other date."""
    return str(run.info.get("created", "1980-01-01"))[:10]


def crate(run: Run, verdict: Validation, members: Sequence[Member]) -> dict[str, Any]:
    """The metadata of a record with these files, as a tree for JSON."""
    own = origin(run)
    files = [_file(member) for member in members]
    settings = [_value(f"setting-{name}", name, value) for name, value in _settings(own)]
    numbers = list(_numbers(verdict))
    software = list(_software(own["versions"]))
    given = [one for one in files if one["@id"].startswith(_WENT_IN)]
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"latflow run {run.config.name}",
        "startTime": own["created"],
        "instrument": _references(software[:1]),
        "object": _references([*given, *settings]),
        "result": _references([one for one in files if one not in given]),
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{theory(run.action)[0]}: {run.config.name}",
        "description": run.config.description or f"A run of latflow: {theory(run.action)[0]}.",
        "datePublished": day(run),
        "hasPart": _references(files),
        "mentions": _references([action]),
        "variableMeasured": _references(numbers),
    }
    descriptor = {
        "@id": DESCRIPTOR,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _SPECIFICATION},
        "about": {"@id": "./"},
    }
    return {
        "@context": [f"{_SPECIFICATION}/context", {"sha256": "http://schema.org/sha256"}],
        "@graph": [descriptor, root, action, *software, *files, *settings, *numbers],
    }


def _file(member: Member) -> dict[str, Any]:
    return {
        "@id": member.name,
        "@type": "File",
        "name": PurePosixPath(member.name).name,
        "description": member.words,
        "encodingFormat": _KINDS.get(PurePosixPath(member.name).suffix, "application/octet-stream"),
        "contentSize": str(member.size),
        "sha256": member.digest,
    }


def _settings(own: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What decides the numbers, besides the configuration that holds all of it: seed, lattice, couplings."""
    yield "seed", own["seed"]
    yield "lattice", " × ".join(map(str, own["lattice"]))
    yield from own["couplings"].items()


def _numbers(verdict: Validation) -> Iterator[dict[str, Any]]:
    """What was found, by every way, printed with its error."""
    for row in verdict.rows:
        for way in verdict.ways:
            if way.name in row.values:
                name = f"{row.label} ({way.heading})"
                yield _value(f"result-{row.name}-{way.name}", name, str(row.values[way.name]))


def _software(versions: dict[str, str]) -> Iterator[dict[str, Any]]:
    """latflow with its commit, and what it stood on."""
    packages = {name: version for name, version in versions.items() if name not in ("latflow", "commit")}
    needed = [_application(name, version) for name, version in packages.items()]
    own = _application("latflow", versions["latflow"])
    if "commit" in versions:
        own["identifier"] = versions["commit"]
    yield own | {"softwareRequirements": _references(needed)}
    yield from needed


def _application(name: str, version: str) -> dict[str, Any]:
    return {"@id": f"#{name}", "@type": "SoftwareApplication", "name": name, "version": version}


def _value(identifier: str, name: str, value: Any) -> dict[str, Any]:
    return {"@id": f"#{quote(identifier)}", "@type": "PropertyValue", "name": name, "value": value}


def _references(entities: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": one["@id"]} for one in entities]

"""What a challenge server answers, read strictly: a misread number would become a verdict.

Sources: davisvideochallenge/davis2017-evaluation: evaluation_codalab.py (scores.txt). The program of the YouTube-VOS
server is private; its names are those of its published tables, and any other line is refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from vosrepro.base.errors import DataError
from vosrepro.base.files import file_digest, read_text
from vosrepro.scoring.submission import Server
from vosrepro.study.plan import Entry
from vosrepro.study.records import InferenceRecord, Provenance, ServerAnswer

_SCORES = "scores.txt"
_NAMES: Mapping[Server, Mapping[str, str]] = {
    "davis": {
        "GlobalMean": "J&F-Mean",
        "JMean": "J-Mean",
        "JRecall": "J-Recall",
        "JDecay": "J-Decay",
        "FMean": "F-Mean",
        "FRecall": "F-Recall",
        "FDecay": "F-Decay",
    },
    "youtube": {"Overall": "G", "J_seen": "J_seen", "J_unseen": "J_unseen", "F_seen": "F_seen", "F_unseen": "F_unseen"},
}
#: The first is the mean of the others.
_MEANS: Mapping[Server, tuple[str, tuple[str, ...]]] = {
    "davis": ("J&F-Mean", ("J-Mean", "F-Mean")),
    "youtube": ("G", ("J_seen", "J_unseen", "F_seen", "F_unseen")),
}
_LINE = re.compile(r"\s*([A-Za-z_]+)\s*:\s*(-?\d+(?:\.(\d+))?)\s*")


def read_answer(path: Path | str, server: Server) -> dict[str, float]:
    """The values (0..1) by our names of metrics, from scores.txt or the zip of the server's output that holds it.

    Raises:
        DataError: if a line is not understood, given twice, missing or out of range, or the mean is not that of its
            parts.
    """
    path = Path(path)
    names, found, digits = _NAMES[server], {}, 12
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] not in names:
            raise DataError(
                f"{path}, line {number}: '{line.strip()}' is not what the server writes: expected are NAME: VALUE with "
                f"the names {', '.join(names)}"
            )
        metric, value = names[match[1]], float(match[2])
        if metric in found:
            raise DataError(f"{path}, line {number}: {match[1]} is given twice: keep the server's own file")
        if abs(value) > 1:
            raise DataError(
                f"{path}, line {number}: {match[1]} {match[2]} must be a share (0 to 1), as the server writes"
            )
        found[metric], digits = value, min(digits, len(match[3] or ""))
    _complete(path, server, found, slack=10.0**-digits)
    return found


def record_answer(entry: Entry, path: Path) -> dict[str, float]:
    """Write what a server answered to an entry's masks beside its submission; returns the values.

    Raises:
        DataError: if the answer is not understood, or the entry has no masks.
    """
    masks = InferenceRecord.read(entry.inference).masks_digest
    server: Server = "youtube" if "G" in entry.benchmark_params.primary_metrics else "davis"
    values = read_answer(path, server)
    ServerAnswer(
        entry=entry.key,
        benchmark=entry.benchmark,
        protocol=f"server of {server}",
        global_=values,
        answer=path.name,
        answer_sha256=file_digest(path),
        submission_sha256=file_digest(entry.submission) if entry.submission.is_file() else None,
        masks_digest=masks,
        provenance=Provenance.here(),
    ).write(entry.server_scores)
    return values


def _complete(path: Path, server: Server, found: Mapping[str, float], *, slack: float) -> None:
    missing = [name for name, metric in _NAMES[server].items() if metric not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: give the whole output of the server")
    whole, parts = _MEANS[server]
    mean = sum(found[part] for part in parts) / len(parts)
    if abs(mean - found[whole]) > slack:
        raise DataError(
            f"{path}: {whole} {found[whole]:g} is not the mean {mean:g} of {', '.join(parts)}: keep the server's file"
        )


def _text(path: Path) -> str:
    try:
        if not zipfile.is_zipfile(path):
            return read_text(path)
        with zipfile.ZipFile(path) as archive:
            return archive.read(_SCORES).decode("utf-8")
    except KeyError as error:
        raise DataError(f"{path} holds no {_SCORES}: download the output of the scoring step") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): give scores.txt or the zip that holds it") from error

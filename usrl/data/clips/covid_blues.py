"""COVID-BLUES: lung ultrasound clips with the severity of each.

Origin: Maastricht University Medical Center, 2021; 63 patients with symptoms of an infected lung, at up to
six points of the BLUE protocol each; Philips Lumify with a convex probe.

Licence: Creative Commons, non-commercial and without derivatives in recent copies; read that of yours. This
package does not redistribute it.

Citation: Wiedemann et al. (2025), COVID-BLUeS - A prospective study on the value of AI in lung ultrasound
analysis, IEEE Journal of Biomedical and Health Informatics, arXiv:2509.10556.

Expected counts: 362 clips of 63 patients in the full set, with 60 to 100 frames each. Reduced copies load, as
they are common; `usrl data check` says how many clips of the table are not there.

Layout: ``severity.csv`` and ``lus_videos/patient_1_L1.mp4``.

Labels: ``severity`` from 0 to 3 (Soldati et al. 2020, doi:10.1002/jum.15285), ``a_lines`` and ``b_lines``, 1
if they are visible. Group: the patient.

Known-bad cases:

- Some labels have spaces at their end.
- Some clips have far fewer frames than the others.
"""

import re
from pathlib import Path

from usrl.data.clips.files import Entry, Listed, clip_files
from usrl.data.clips.reading import list_clips
from usrl.data.reading.pairs import listed
from usrl.data.reading.tables import clean, read_rows
from usrl.data.splits import Member
from usrl.errors import UserError

TABLE, FOLDER = "severity.csv", "lus_videos"
HEADER = ("video_file", "Severity Score", "A-lines", "B-lines", "comments")
_NAME = re.compile(r"(?P<patient>patient_[0-9]+)_[LR][0-9](_[0-9]+)?")
_SEVERITIES = {f"{number}{end}": number for number in range(4) for end in ("", ".0")}
_ANSWERS = {"no": 0, "yes": 1}


def _find(root: Path) -> Path:
    if not (root / FOLDER).is_dir() or not (root / TABLE).is_file():
        raise UserError(
            f"{root}: no COVID-BLUES found; wanted {TABLE} and {FOLDER}/ there; name the folder that "
            "holds them"
        )
    return root


def _list(root: Path) -> Listed:
    """List the clips of the table that are there, of sources such as ``"covid-blues/severity 2"``."""
    table, folder = root / TABLE, root / FOLDER
    files = {clean(path.stem): path for path in list_clips(folder)}
    entries, faults, absent, seen = [], [], [], set()
    for line, (name, severity, a_lines, b_lines, _) in read_rows(table, HEADER):
        match = _NAME.fullmatch(name)
        is_sound = severity in _SEVERITIES and {a_lines, b_lines} <= _ANSWERS.keys()
        if not match or not is_sound or name in seen:
            faults.append(
                f"{table}: line {line} must give a new clip such as patient_1_L1, a severity from 0 to 3, "
                "and yes or no twice; restore the file"
            )
            seen.add(name)
            continue
        seen.add(name)
        if name not in files:
            absent.append(name)
            continue
        labels = {
            "severity": _SEVERITIES[severity],
            "a_lines": _ANSWERS[a_lines],
            "b_lines": _ANSWERS[b_lines],
        }
        source = f"covid-blues/severity {labels['severity']}"
        entries.append(Entry(files[name], Member(name, match["patient"], source), labels))
    faults += [
        f"{files[name]}: has no row in {TABLE}; restore the row or remove the clip"
        for name in sorted(files.keys() - seen)
    ]
    if not files:
        faults.append(f"{folder}: holds no clips; unpack them there")
    notes = []
    if absent:
        notes.append(
            f"{len(absent)} of the {len(seen)} clips in {TABLE} are not in {FOLDER}/, and are left out: "
            f"{listed(absent, 4)}"
        )
    return Listed(entries, faults, notes, {f"clips in {TABLE} that are not there": len(absent)})


COVID_BLUES = clip_files(_find, _list)

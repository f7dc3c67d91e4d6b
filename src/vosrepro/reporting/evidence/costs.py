"""What more trainings would cost, from the plan of the study: for rows and studies with too few seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vosrepro.costs.jobs import job_costs
from vosrepro.costs.times import Known
from vosrepro.study.plan import Plan, StageNode

#: Folder of a stage -> device hours of its training; None: not measured in this checkout.
Hours = Mapping[Path, float | None]


def training_hours(plan: Plan) -> Hours:
    """Device hours of every training of a study, as its records say."""
    return {job.node.folder: job.device_hours for job in job_costs(plan, Known()) if job.node is not None}


def training_cost(hours: Hours, stages: Iterable[StageNode]) -> str:
    """The device hours of some trainings in words; empty if one of them is not known, or there is none."""
    found = [hours.get(node.folder) for node in stages]
    known = [value for value in found if value is not None]
    return f"about {sum(known):.2g} device hours of training" if found and len(known) == len(found) else ""

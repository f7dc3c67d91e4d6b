"""The plan of the study; all logic is in vosrepro.workflow, where it is tested."""

import os

from snakemake.exceptions import WorkflowError

try:
    from vosrepro.base.errors import VosreproError
    from vosrepro.workflow import Jobs, start_follower, start_warm_process
except ImportError as error:
    raise WorkflowError(f"vosrepro is not installed ({error}): run `make setup` first")

try:
    overrides = ["--config"] if workflow.config_settings.config else []
    JOBS = Jobs(
        config,
        workflow.global_resources[
            "_cores"
        ].value,  # without --cores (on a cluster) None
        [*workflow.configfiles, *overrides],
        lambda: workflow.dag_settings,
        cluster=lambda: workflow.non_local_exec or workflow.remote_exec,
        allocated=(
            os.environ.get("SLURM_CPUS_PER_TASK") if workflow.remote_exec else None
        ),
    )
except VosreproError as error:
    raise WorkflowError(str(error))


wildcard_constraints:
    **JOBS.wildcards,


localrules:
    all,
    track,
    outlets,
    report,

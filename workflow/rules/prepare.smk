"""Real data sets put in place: snakemake --configfile params/studies/paper.yaml -- real/manifests/davis2017.json

Archives are looked for in <root>/downloads; what cannot be had is explained. Studies do not depend on
this: data that is in place already needs no manifest of its own.
"""


rule prepare:
    output:
        f"{JOBS.plan.study.data.root}/manifests/{{set}}.json",
    log:
        f"logs/{JOBS.name}/prepare-{{set}}.log",
    wildcard_constraints:
        set="[a-z0-9-]+",
    resources:
        mem_mb=2000,
        runtime=1440,
    params:
        root=JOBS.plan.study.data.root,
    shell:
        "vosrepro data prepare {wildcards.set} --root {params.root} > {log} 2>&1"

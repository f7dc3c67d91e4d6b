"""Released checkpoints, which a person downloads, as our weights.

The file lies at weights/METHOD/RECIPE.pth (or .pt, .pth.tar, .bin). It is no declared input: where it lacks,
the job says where to get it, and weights that were imported by hand are left alone.
"""


rule import_weights:
    input:
        JOBS.released_file,
    output:
        weights="weights/{method}/{recipe}.safetensors",
        record="weights/{method}/{recipe}.json",
    log:
        f"logs/{JOBS.name}/import/{{method}}-{{recipe}}.log",
    threads: JOBS.threads(1)
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        size=JOBS.plan.study.size,
        digest=JOBS.imported,
    shell:
        "vosrepro weights import {wildcards.method} --recipe {wildcards.recipe}"
        " --size {params.size} > {log} 2>&1"

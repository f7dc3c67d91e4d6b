"""Zips for challenge servers, checked before the upload: snakemake -- submissions

They are made of the entries whose ground truth is not public, and are no part of the report.
"""


rule submissions:
    input:
        JOBS.submissions(),


rule submit:
    input:
        "results/{study}/data.json",
        "results/{study}/{method}/{recipe}/seed{seed}/inference.json",
    output:
        zip="submissions/{study}/{method}_{recipe}_seed{seed}_{variant}_{benchmark}.zip",
        record="submissions/{study}/{method}_{recipe}_seed{seed}_{variant}_{benchmark}.json",
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/submit-{variant}-{benchmark}.log",
    wildcard_constraints:
        variant="[a-z0-9.-]+",
        benchmark="[a-z0-9.-]+",
    threads: JOBS.threads(1)
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        study=JOBS.file,
    shell:
        "vosrepro submit-entry --study {params.study} --method {wildcards.method}"
        " --recipe {wildcards.recipe} --seed {wildcards.seed} --variant {wildcards.variant}"
        " --benchmark {wildcards.benchmark} > {log} 2>&1"

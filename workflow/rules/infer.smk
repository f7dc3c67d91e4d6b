"""One process per set of weights runs all its variants and benchmarks.

Importing torch costs more than a small benchmark, so the output is a manifest of all entries of a run;
the job itself keeps every finished video and repeats only what changed.
"""


rule infer:
    input:
        "results/{study}/data.json",
        JOBS.weights,
    output:
        "results/{study}/{method}/{recipe}/seed{seed}/inference.json",
    params:
        study=JOBS.file,
        digest=JOBS.infer,
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/infer.log",
    benchmark:
        "benchmarks/{study}/{method}/{recipe}/seed{seed}/infer.tsv"
    threads: JOBS.threads(1)
    retries: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=720,
    shell:
        "vosrepro launch --gpus {resources.gpu} --threads {threads} --"
        " infer --study {params.study} --method {wildcards.method} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} > {log} 2>&1"

"""One process per set of weights runs all its variants and benchmarks.

Importing torch costs more than a small benchmark, so the output is a manifest of all entries of a run;
the job itself keeps every finished video and repeats only what changed.
"""


rule infer:
    input:
        "results/{study}/data.json",
        JOBS.weights,
        JOBS.resized,
    output:
        "results/{study}/{method}/{recipe}/seed{seed}/inference.json",
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/infer.log",
    wildcard_constraints:
        recipe=JOBS.recipes(taken=False),
    retries: int(workflow.is_main_process)  # not again in the process that a cluster starts
    threads: JOBS.threads(1, cluster=4)
    resources:
        torch_threads=JOBS.real_threads,  # not a parameter: --cores must not retrain
        anew=JOBS.anew_inference,
        gpu=1,
        mem_mb=8000,
        runtime=720,
    params:
        study=JOBS.file,
        digest=JOBS.infer,
    shell:
        "vosrepro infer --gpus {resources.gpu} --threads {resources.torch_threads}"
        " --study {params.study} --method {wildcards.method} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} --anew {resources.anew} > {log} 2>&1"


# Masks that authors published, in place of inference: no device, no torch; where they lack, the job says so.
rule take:
    input:
        "results/{study}/data.json",
        JOBS.taken_masks,
    output:
        "results/{study}/{method}/{recipe}/seed{seed}/inference.json",
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/infer.log",
    wildcard_constraints:
        recipe=JOBS.recipes(taken=True),
    threads: JOBS.threads(1)
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        study=JOBS.file,
        digest=JOBS.infer,
    shell:
        "vosrepro take-masks --study {params.study} --method {wildcards.method}"
        " --recipe {wildcards.recipe} --seed {wildcards.seed} > {log} 2>&1"

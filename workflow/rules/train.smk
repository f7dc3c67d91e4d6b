"""One job per training stage; its resume state lies in state/, outside declared outputs."""


rule train:
    input:
        "results/{study}/data.json",
        JOBS.stage_inputs,
    output:
        "results/{study}/{method}/{recipe}/seed{seed}/{stage}/run.json",
        "results/{study}/{method}/{recipe}/seed{seed}/{stage}/metrics.jsonl",
    params:
        study=JOBS.file,
        digest=JOBS.train,
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/train-{stage}.log",
    benchmark:
        "benchmarks/{study}/{method}/{recipe}/seed{seed}/train-{stage}.tsv"
    threads: JOBS.threads(1)
    priority: 100 # the chain of stages is the longest path of the DAG
    retries: 1
    resources:
        gpu=JOBS.gpus,
        mem_mb=4000,
        runtime=2880,
    shell:
        "vosrepro launch --gpus {resources.gpu} --threads {threads} --"
        " train --study {params.study} --method {wildcards.method} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} --stage {wildcards.stage} > {log} 2>&1"

"""Score every entry of a run; no torch, one process."""


rule score:
    input:
        "results/{study}/data.json",
        "results/{study}/{method}/{recipe}/seed{seed}/inference.json",
    output:
        "results/{study}/{method}/{recipe}/seed{seed}/scores.json",
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/score.log",
    threads: JOBS.threads(1)
    resources:
        mem_mb=1000,
        runtime=120,
    params:
        study=JOBS.file,
        digest=JOBS.score,
    shell:
        "vosrepro score-run --study {params.study} --method {wildcards.method}"
        " --recipe {wildcards.recipe} --seed {wildcards.seed} > {log} 2>&1"

"""Data sets: generate or find them, verify them, write the manifest that all else depends on."""


rule data:
    output:
        "results/{study}/data.json",
    log:
        "logs/{study}/data.log",
    benchmark:
        "benchmarks/{study}/data.tsv"
    threads: JOBS.threads(2)
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        study=JOBS.file,
        digest=JOBS.data(),
    shell:
        "vosrepro data manifest --study {params.study} --out {output} > {log} 2>&1"

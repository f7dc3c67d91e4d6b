"""Scaled copies of high-resolution benchmarks; inference restores its masks to the original size."""


rule resize:
    input:
        f"results/{JOBS.name}/data.json",
    output:
        "state/resized/{resized}/sizes.json",
    log:
        "logs/resize/{resized}.log",
    threads: JOBS.threads(1)
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        study=JOBS.file,
        benchmark=JOBS.resized_benchmark,
    shell:
        "vosrepro resize --study {params.study} --benchmark {params.benchmark} > {log} 2>&1"

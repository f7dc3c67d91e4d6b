"""Complete the tracker, then render the report from files alone."""


rule track:
    input:
        expand("{run}/scores.json", run=JOBS.runs()),
    output:
        f"results/{JOBS.name}/mlflow.json",
    log:
        f"logs/{JOBS.name}/track.log",
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        study=JOBS.file,
    shell:
        "vosrepro track --study {params.study} --complete --out {output} > {log} 2>&1"


rule report:
    input:
        expand("{run}/scores.json", run=JOBS.runs()),
        f"results/{JOBS.name}/data.json",
        f"results/{JOBS.name}/mlflow.json",
        "params/published.csv",
    output:
        page="reports/all.html",
        metrics=f"results/{JOBS.name}/metrics.json",
    log:
        f"logs/{JOBS.name}/report.log",
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        study=JOBS.file,
        digest=JOBS.report(),
    shell:
        "vosrepro report --study {params.study} > {log} 2>&1"

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


rule outlets:
    input:
        expand("{run}/scores.json", run=JOBS.runs()),
        f"results/{JOBS.name}/data.json",
        "params/published.csv",
    output:
        f"results/{JOBS.name}/metrics.json",
        expand(
            f"results/{JOBS.name}/plots/{{name}}.csv",
            name=["training", "selection", "scores"],
        ),
    log:
        f"logs/{JOBS.name}/outlets.log",
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        study=JOBS.file,
        digest=JOBS.report(),
    shell:
        "vosrepro report --study {params.study} --only outlets > {log} 2>&1"


# The page is this rule's only output: all studies share its name, and Snakemake notices that another
# study is wanted only if every output of the rule has a record.
rule report:
    input:
        expand("{run}/scores.json", run=JOBS.runs()),
        f"results/{JOBS.name}/metrics.json",
        f"results/{JOBS.name}/mlflow.json",
    output:
        "reports/all.html",
    log:
        f"logs/{JOBS.name}/report.log",
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        study=JOBS.file,
        digest=JOBS.report(),
    shell:
        "vosrepro report --study {params.study} --only pages --record > {log} 2>&1"

"""Choose a checkpoint of the last stage on held-out training sequences, never on a benchmark."""


rule select:
    input:
        "results/{study}/data.json",
        JOBS.run_inputs,
    output:
        weights="results/{study}/{method}/{recipe}/seed{seed}/selected.safetensors",
        table="results/{study}/{method}/{recipe}/seed{seed}/selection.csv",
        record="results/{study}/{method}/{recipe}/seed{seed}/selected.json",
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/select.log",
    priority: 50
    threads: JOBS.threads(1, cluster=4)
    resources:
        torch_threads=JOBS.real_threads,  # not a parameter: --cores must not retrain
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        study=JOBS.file,
        digest=JOBS.select,
    shell:
        "vosrepro select --gpus {resources.gpu} --threads {resources.torch_threads}"
        " --study {params.study} --method {wildcards.method} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} > {log} 2>&1"

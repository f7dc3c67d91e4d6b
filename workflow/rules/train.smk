"""One job per training stage; its resume state lies in state/, outside declared outputs."""


rule train:
    input:
        "results/{study}/data.json",
        JOBS.stage_inputs,
    output:
        "results/{study}/{method}/{recipe}/seed{seed}/{stage}/run.json",
        "results/{study}/{method}/{recipe}/seed{seed}/{stage}/metrics.jsonl",
    log:
        "logs/{study}/{method}/{recipe}/seed{seed}/train-{stage}.log",
    priority: 100  # the chain of stages is the longest path of the DAG
    retries: int(workflow.is_main_process)  # not again in the process that a cluster starts
    threads: JOBS.train_threads
    resources:
        torch_threads=JOBS.real_threads,  # not a parameter: --cores must not retrain
        anew=JOBS.anew_training,
        gpu=JOBS.gpus,
        mem_mb=JOBS.train_mem_mb,
        runtime=2880,
    params:
        study=JOBS.file,
        digest=JOBS.train,
    shell:
        "vosrepro train --gpus {resources.gpu} --threads {resources.torch_threads}"
        " --study {params.study} --method {wildcards.method} --recipe {wildcards.recipe}"
        " --seed {wildcards.seed} --anew {resources.anew} --stage {wildcards.stage} > {log} 2>&1"

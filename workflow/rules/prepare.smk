"""Real data sets put in place: snakemake --configfile params/studies/paper.yaml -- results/sets/davis2017.json

Archives are looked for in <root>/downloads; what cannot be had is explained. The manifest and the listing
(files, bytes and a digest per folder) are what DVC tracks of sets that are too large to be copied: name the
sets in params/real_sets.yaml. Studies do not depend on this: data that is in place already needs no manifest.
"""


rule prepare:
    output:
        manifest="results/sets/{set}.json",
        listing="results/sets/{set}.csv",
    log:
        f"logs/{JOBS.name}/prepare-{{set}}.log",
    wildcard_constraints:
        set="[a-z0-9-]+",
    resources:
        mem_mb=2000,
        runtime=1440,
    params:
        root=JOBS.plan.study.data.root,
    shell:
        "vosrepro data prepare {wildcards.set} --root {params.root:q} --out {output.manifest:q} > {log:q} 2>&1"


# The copies that stages 0 and 2 of Mask-Propagation train on: -- results/sets/converted/youtube-480p.json
rule convert:
    input:
        JOBS.converted_set,
    output:
        "results/sets/converted/{kind}.json",
    log:
        f"logs/{JOBS.name}/convert-{{kind}}.log",
    wildcard_constraints:
        kind="youtube-480p|static-384",
    threads: JOBS.threads(8)
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        root=JOBS.plan.study.data.root,
    shell:
        "vosrepro data convert {wildcards.kind} --root {params.root:q} --processes {threads}"
        " --out {output:q} > {log:q} 2>&1"

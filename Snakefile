"""The study as one DAG: data -> train stage 0/1/2 -> select -> infer -> score -> report.

snakemake --cores 8 --resources gpu=4 -- reports/all.html
snakemake --configfile params/studies/davis16-cpu.yaml --cores 2 -- reports/all.html
"""

from snakemake.utils import min_version

min_version("9.18")

if "study" not in config:

    configfile: "params/studies/mini.yaml"


include: "workflow/rules/common.smk"


rule all:
    input:
        "reports/all.html",


include: "workflow/rules/prepare.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/import.smk"
include: "workflow/rules/select.smk"
include: "workflow/rules/resize.smk"
include: "workflow/rules/infer.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/submit.smk"
include: "workflow/rules/report.smk"


onstart:
    start_warm_process()
    start_follower(JOBS.file)

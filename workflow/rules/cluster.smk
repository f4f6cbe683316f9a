# What differs on a cluster: docs/cluster.md.
# These run beside the main process: they need the network, or take seconds and hardly any memory, or come last.
localrules:
    fetch,
    data,
    benchmark_comparisons,
    put_given,
    data_cards,
    cards,
    tables,
    claims,
    figures,
    report_page,
    explore,


if not workflow.is_main_process:
    runs.pass_on_sigterm()
    # The shell that waits for a script must outlive the warning, or the job ends before the script has saved its work.
    shell.prefix("set -euo pipefail; trap : TERM; ")


def stay_with_squeue():
    """Make the SLURM plugin do as where there is no `sacct`, if it is to ask `squeue`.

    Else it turns to `sacct` whenever the controller does not answer, and without an accounting database waits for ever.
    """
    if workflow.executor_plugin.name == "slurm" and workflow.executor_settings.status_command == "squeue":
        import snakemake_executor_plugin_slurm

        snakemake_executor_plugin_slurm.is_query_tool_available = lambda tool: tool == "squeue"

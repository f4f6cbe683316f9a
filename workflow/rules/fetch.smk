# What a study reads from the hub, into a cache that studies share. The only rule that uses a network.
HUB_CACHE = Path(study.data_root, study.hub_cache)
MISSING = [str(file.parent.relative_to(HUB_CACHE)) for file in places.fetched(study).values() if not file.exists()]


rule fetch:
    output:
        # Not removed before the job: another study may have brought it since this one was planned.
        update(f"{HUB_CACHE}/{{piece}}/checksums.json"),
    log:
        f"{RESULTS}/logs/fetch/{{piece}}.log",
    wildcard_constraints:
        # What the cache has is an ordinary file that no job makes: another clone of the project, with newer scripts, must
        # not fetch it again.
        piece="|".join(map(re.escape, MISSING)) or "none",
    retries: 3
    conda:
        "../../envs/model.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    message:
        "Fetch {wildcards.piece}"
    script:
        "../scripts/fetch.py"

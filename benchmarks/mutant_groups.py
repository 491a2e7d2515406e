"""The modules that carry a promise, by what they promise, each group with its own tests."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Modules under src/ebox, and their tests: rounds of arguments of pytest, the quick ones first."""

    modules: tuple[str, ...]
    rounds: tuple[tuple[str, ...], ...]


# The tests that are done within seconds, of files whose others compile or train.
EXCHANGE_WITHOUT_MESH = (
    "over_nodes or of_powers or messages_cost or says_which or eight_bits or finite_stays or exactly or halves"
)
RESUMING_WITHOUT_TRAINING = "kept or makes_way or removed or before_its_first or says_nothing or one_sender"

PROCESSES_NOT_STARTED = "dealt or tasks_of or lost_another or membership"

GROUPS = {
    "publishing": Group(
        ("storage/publishing", "storage/stamps"), (("tests/test_stamps.py", "tests/test_publishing.py"),)
    ),
    "metrics": Group(
        ("evaluation/bootstrap", "evaluation/metrics", "evaluation/thresholds"),
        (
            (
                "tests/test_evaluation_metrics.py",
                "tests/test_evaluation_thresholds.py",
                "tests/test_evaluation_bootstrap.py",
                "-k",
                "not equally_good and not cover and not apart and not a_thousand",
            ),
            ("tests/test_evaluation_bootstrap.py", "-k", "equally_good or cover_the_truth"),
        ),
    ),
    "splits": Group(
        (
            *("datasets/splits", "datasets/similarity", "datasets/audit", "datasets/kmers"),
            *("datasets/relatives", "datasets/seeds", "datasets/families"),
        ),
        (
            (
                "tests/test_datasets_splits.py",
                "tests/test_datasets_similarity.py",
                "tests/test_datasets_audit.py",
                "tests/test_datasets_relatives.py",
                "-m",
                "not slow and not real_data",
            ),
        ),
    ),
    "order": Group(("training/sampling", "training/batches"), (("tests/test_training_sampling.py",),)),
    "exchange": Group(
        ("mesh/exchange", "mesh/compression", "mesh/lowrank", "mesh/collectives"),
        (
            ("tests/test_parallel_exchange.py", "-k", EXCHANGE_WITHOUT_MESH),
            ("tests/test_parallel_exchange.py", "-m", "not slow", "-k", f"not ({EXCHANGE_WITHOUT_MESH})"),
        ),
    ),
    "checkpoints": Group(
        ("training/checkpoints", "models/tensors"),
        (
            ("tests/test_tensors.py",),
            ("tests/test_training_resuming.py", "-m", "not slow", "-k", RESUMING_WITHOUT_TRAINING),
            ("tests/test_training_resuming.py", "-m", "not slow", "-k", f"not ({RESUMING_WITHOUT_TRAINING})"),
        ),
    ),
    "supervision": Group(
        (
            "workers/supervision",
            "workers/contract",
            "workers/processes",
            "workers/watch",
            "workers/local_crew",
            "training/group",
        ),
        (
            (
                "tests/test_parallel_supervision.py",
                "tests/test_parallel_contract.py",
                "tests/test_parallel_local_crew.py",
                "tests/test_training_group.py",
            ),
            ("tests/test_parallel_processes.py", "-m", "not slow", "-k", PROCESSES_NOT_STARTED),
            ("tests/test_parallel_cluster.py", "tests/test_parallel_watching.py", "-m", "not slow"),
        ),
    ),
}

# Sizes of blocks and buckets, multipliers of a hash, waits: they decide how long something takes, not what comes out.
TUNING = re.compile(
    r"_SMALL_BUCKET|_PAIRS_AT_ONCE|MAX_ROWS_FOR_LONG_KMERS|_MAX_TABLE_BITS|_LOOKUPS_AT_ONCE|_BLOCK_BASES|_HEAP_BYTES"
    r"|_MIX_A|_MIX_B|CHUNK_COUNTS|HALF_SCALE|SWAPPED_BYTES|GRACE_SECONDS|SAVE_SECONDS|BLAME_SECONDS|BEAT_SECONDS"
    r"|PATIENCE|HEARTBEAT_MORE_SECONDS"
)

"""Sentences of the doctor: what would be slow, or is good to know, before a training here or on other machines."""

from __future__ import annotations

DOCTOR: dict[str, str] = {
    # Of a training on this machine.
    "little_memory": "a step needs more memory than is free; set train.device_batch_size, so that gradients are "
    "accumulated",
    "many_processes": "{processes} processes share {cores} cores; use at most one process for each core",
    "uneven_batch": "a batch of {batch_size} leaves places on {devices} devices empty; {places} fills them",
    "shared_cores": "the time is that of this process on all cores; {processes} processes share them, and also "
    "exchange",
    "delayed_on_cpu": "a processor waits for a delayed exchange too, so sync=delayed does not make steps faster here",
    "busy": "the machine is busy (load {load:.1f}), so the time is that of a busy machine",
    "bfloat16_on_cpu": "bfloat16 is slower than float32 on most processors; time both, or leave train.precision at "
    "auto",
    "global_statistics": "batch normalisation by the whole batch waits for two messages in each layer at every step; "
    "with train.batch_statistics=group, workers that hold whole groups send none",
    "group_that_fits": "each of {workers} workers takes {piece} examples, which are no whole groups of {group}, so "
    "batch normalisation waits for two messages a layer, longer ones than without groups; set "
    "train.group_examples={fits}",
    "no_group_fits": "each of {workers} workers takes {piece} examples, which are no whole groups of {group}, so "
    "batch normalisation waits for two messages a layer, longer ones than without groups; set a train.batch_size that "
    "the workers share evenly",
    # Of a step compiled for other machines.
    "empty_places": "a batch of {batch_size:,} leaves {empty:,} of {places:,} places empty; --set "
    "train.batch_size={places} would fill them at the same cost a step",
    "operations_of_program": "this compiler counts no operations; they are those of the program before compilation",
    "assumed_data": "examples of {length_bp} bp and one track were assumed; --for DATASET takes the real ones",
}

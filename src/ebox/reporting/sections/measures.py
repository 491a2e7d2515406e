"""The facts of a report, as plain values: what report.json holds and the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ebox.drawing.numbers import MODEL
from ebox.reporting.languages.english import METRICS, format_command, name_baseline
from ebox.reporting.reading import RunFiles, is_measured
from ebox.reporting.sections.learned import describe_learned
from ebox.reporting.sections.result import list_limits, make_headline
from ebox.storage.stamps import REPORT, stamped

SPLITS = ("train", "validation", "test")
NUM_FILTERS_SHOWN = 24
_LEAKS = {
    "exact": "the same sequence",
    "reverse_complement": "its reverse complement",
    "overlap": "overlapping coordinates",
    "similar": "nearly the same sequence",
}


def collect_facts(files: RunFiles) -> dict[str, Any]:
    """Put together what is known about a run; nothing here is text that a page must trust."""
    kmer = int(files.evaluation.get("config", {}).get("kmer", files.config.evaluation.kmer))
    # What could not be measured comes last, so that the page opens with a result.
    measured = sorted(files.evaluation["tracks"], key=lambda track: not is_measured(track))
    tracks = [_describe_track(track, files, kmer) for track in measured]
    simulation = _describe_simulation(files.simulation)
    planted = () if simulation is None else [motif["id"] for motif in simulation["motifs"]]
    facts: dict[str, Any] = {
        "run": files.name,
        "headlines": [make_headline(track, kmer, planted, _count_seen(files.quality)) for track in measured],
        "question": _describe_question(files, simulation),
        "data": _describe_data(files),
        "training": _describe_training(files),
        "tracks": tracks,
        "filters": _describe_filters(files),
        "learned": describe_learned(files.explanation),
        "ceiling": _describe_ceiling(files, tracks),
        "environment": None if files.environment is None else _describe_environment(files.environment),
        "communication": _describe_communication(files),
        "parity": _describe_parity(files.parity),
        "scaling": _describe_scaling(files.scaling),
        "commands": _list_commands(files),
        "absent": list(files.absent),
    }
    facts["limits"] = list_limits(facts, files.evaluation)
    # An evaluation may have been made again with other settings than the run began with.
    evaluated = files.evaluation.get("config")
    facts["settings"] = files.config.model_dump(mode="json") | ({} if evaluated is None else {"evaluation": evaluated})
    return stamped(REPORT, facts, created=files.evaluation.get("created"))


def _describe_question(files: RunFiles, simulation: Mapping[str, Any] | None) -> dict[str, Any]:
    manifest, quality = files.dataset, files.quality
    asked = files.config.data
    split = {} if quality is None else quality.get("split", {})
    mode = split.get("mode", manifest.get("config", {}).get("split", asked.split))
    sources = manifest.get("sources", [])
    roles = {} if quality is None else {entry["source"]: entry for entry in quality.get("sources", [])}
    return {
        "tracks": list(manifest.get("tracks", [])),
        "length_bp": manifest.get("length_bp"),
        "kinds": list(manifest.get("kinds", [])),
        "sources": [_describe_source(source, roles) for source in sources],
        "split": {"chroms": None, "fractions": None, **split, "mode": mode},
        "simulated": simulation,
    }


def _describe_simulation(simulation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was planted, how often and where, by the settings in simulation.json."""
    if simulation is None:
        return None
    keys = ("min_sites", "max_sites", "orientation", "centre_bp", "spacing_bp", "negatives")
    settings = _get(simulation, "config")
    motifs = [{"id": motif["name"], "name": motif.get("alt_name")} for motif in simulation.get("motifs", [])]
    return {"motifs": motifs, **{key: settings.get(key) for key in keys}}


def _describe_source(source: Mapping[str, Any], roles: Mapping[str, Any]) -> dict[str, Any]:
    name = str(source.get("path", "")).replace("\\", "/").rsplit("/", 1)[-1]
    more = roles.get(name, {})
    return {
        "name": name,
        "role": source.get("role", more.get("role")),
        "records": source.get("records", more.get("records")),
        "examples": more.get("examples"),
        "sha256": source.get("sha256"),
    }


def _describe_data(files: RunFiles) -> dict[str, Any]:
    manifest, quality = files.dataset, files.quality
    splits = {name: _describe_split(manifest["splits"].get(name, {})) for name in SPLITS}
    facts: dict[str, Any] = {"splits": splits, "num_examples": manifest.get("num_examples")}
    facts["fingerprint"] = manifest.get("fingerprint")
    if quality is None:
        return {**facts, "kinds": None, "dropped": None, "warnings": [], "leaks": None, "made": {}}
    kinds = [
        {
            "kind": kind,
            **{name: values.get(name) for name in SPLITS},
            "num_examples": values.get("num_examples"),
            "gc_mean": values.get("gc", {}).get("mean"),
            "gc_sd": values.get("gc", {}).get("sd"),
        }
        for kind, values in quality.get("kinds", {}).items()
    ]
    return {
        **facts,
        "kinds": kinds,
        "dropped": quality.get("dropped", {}),
        "warnings": list(quality.get("warnings", [])),
        "leaks": _describe_leaks(quality.get("audit")),
        "made": quality.get("made", {}),
    }


def _describe_split(split: Mapping[str, Any]) -> dict[str, Any]:
    num = None if "start" not in split else split["stop"] - split["start"]
    return {"num_examples": num, "num_positive": split.get("num_positive")}


def _count_seen(quality: Mapping[str, Any] | None) -> int:
    """Test sequences that also stand in the training split, on either strand or by their coordinates, at most."""
    between = [] if quality is None else (quality.get("audit") or {}).get("between", [])
    pairs = [pair for pair in between if pair["of"] == "test" and pair["in"] == "train"]
    keys = ("exact", "reverse_complement", "overlap")
    return sum(
        min(sum(pair[key]["num_examples"] for key in keys if key in pair), pair["num_examples"]) for pair in pairs
    )


def _describe_leaks(audit: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    if audit is None:
        return None
    return [
        {
            "of": pair["of"],
            "in": pair["in"],
            "num_examples": pair["num_examples"],
            "found": [
                {
                    "what": words,
                    "num_examples": pair[key]["num_examples"],
                    "other_label": pair[key].get("other_label"),
                }
                for key, words in _LEAKS.items()
                if key in pair
            ],
        }
        for pair in audit.get("between", [])
    ]


def _describe_training(files: RunFiles) -> dict[str, Any] | None:
    if files.training is None and not files.metrics:
        return None
    curves: dict[str, dict[str, list[float]]] = {}
    for entry in files.metrics:
        curve = curves.setdefault(str(entry["kind"]), {})
        for key in ("step", "epoch", "loss", "auroc", "auprc", "learning_rate"):
            if isinstance(entry.get(key), int | float):
                curve.setdefault(key, []).append(entry[key])
    summary = {} if files.training is None else dict(files.training)
    model, train = files.config.model, files.config.train
    return {
        **{key: summary.get(key) for key in ("steps", "epochs", "seconds", "sequences_per_second", "num_parameters")},
        **{key: summary.get(key) for key in ("stopped", "best_step")},
        "architecture": model.architecture,
        "num_filters": model.num_filters,
        "filter_width_bp": model.filter_width_bp,
        "batch_size": train.batch_size,
        "keep": train.keep,
        "curves": curves,
    }


def _describe_track(track: Mapping[str, Any], files: RunFiles, kmer: int) -> dict[str, Any]:
    test = track["splits"]["test"]
    calibrations = {entry["track"]: entry for entry in (files.training or {}).get("calibration", [])}
    baselines = track.get("baselines", {})
    contenders = {MODEL: _get(test, "metrics")} | {
        name: _get(entry.get("splits", {}).get("test", {}), "metrics") for name, entry in baselines.items()
    }
    return {
        "track": track["track"],
        "reason": test.get("reason"),
        "threshold": track.get("threshold"),
        "num_examples": test.get("num_examples"),
        "num_positive": test.get("num_positive"),
        "contenders": [
            {
                "name": name,
                "words": name_baseline(name, kmer),
                "description": baselines.get(name, {}).get("description"),
                "reason": baselines.get(name, {}).get("reason"),
                "metrics": dict(metrics),
            }
            for name, metrics in _rank(contenders)
        ],
        "metrics": [metric for metric in METRICS if metric in contenders[MODEL]],
        "splits": {name: _describe_section(section) for name, section in track["splits"].items()},
        "by_kind": {kind: _describe_section(section) for kind, section in _get(test, "by_kind").items()},
        "balanced": _get(_get(test, "balanced"), "metrics"),
        "comparison": track.get("comparison"),
        "curves": _get(track, "curves"),
        "calibration": [] if track.get("calibration") is None else track["calibration"],
        "calibrated": calibrations.get(track["track"]),
        "histogram": track.get("histogram"),
        "mistakes": files.mistakes.get(str(track["track"])),
    }


def _describe_section(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_examples": section.get("num_examples"),
        "num_positive": section.get("num_positive"),
        "metrics": _get(section, "metrics"),
        "reason": section.get("reason"),
    }


def _get(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside an object; nothing where it is null, as what could not be measured is."""
    inner = value.get(key)
    return {} if inner is None else inner


def _rank(contenders: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The model first, then the baselines by falling AUROC."""

    def place(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float, str]:
        return item[0] != MODEL, -item[1].get("auroc", {}).get("value", 0.0), item[0]

    return sorted(contenders.items(), key=place)


def _describe_filters(files: RunFiles) -> dict[str, Any] | None:
    if files.filters is None:
        return None
    entries: Sequence[Mapping[str, Any]] = files.filters.get("filters", [])
    about = {key: value for key, value in files.filters.items() if key not in ("filters", "format", "format_version")}
    return {
        **about,
        "num_filters": len(entries),
        "num_resembling": sum(entry.get("resembles") is not None for entry in entries),
        "shown": [dict(entry) for entry in entries[:NUM_FILTERS_SHOWN]],
    }


def _describe_ceiling(files: RunFiles, tracks: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The best that any method could reach, where it is known, beside what the network reached there.

    The ceiling is that of simulated positives against simulated negatives; where other kinds of negative
    were added, the network's metrics against the simulated ones (`given`) are its counterpart.
    """
    ceiling = files.evaluation.get("ceiling")
    if ceiling is None and files.simulation is not None:
        ceiling = files.simulation.get("ceiling")
    if not isinstance(ceiling, Mapping):
        return None
    metrics = {name: dict(ceiling[name]) for name in ("auroc", "accuracy") if isinstance(ceiling.get(name), Mapping)}
    kinds = tracks[0]["by_kind"]
    kind = "given" if len(kinds) > 1 and "given" in kinds else None
    network = tracks[0]["splits"]["test"]["metrics"] if kind is None else kinds[kind]["metrics"]
    num_examples = ceiling.get("num_examples")
    return {"metrics": metrics, "num_examples": num_examples, "kind": kind, "network": dict(network)}


def _describe_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    keys = (
        "ebox",
        "python",
        "packages",
        "platform",
        "devices",
        "num_processes",
        "cpu",
        "num_cores",
        "memory_bytes",
    )
    return {key: environment.get(key) for key in (*keys, "started")}


def _describe_communication(files: RunFiles) -> dict[str, Any] | None:
    """What the workers sent each other; none where there was one alone."""
    sent = (files.training or {}).get("communication")
    if not isinstance(sent, Mapping) or sent.get("workers", 1) < 2:
        return None
    keys = (
        "workers",
        "exchange",
        "sync",
        "steps_a_meeting",
        "sent_bytes_a_step",
        "exact_bytes_a_step",
        "ratio",
        "staleness",
    )
    return {key: sent.get(key) for key in keys}


def _describe_scaling(scaling: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What `ebox doctor --scaling` measured, where it was put into the run folder."""
    if scaling is None or scaling.get("format") != "ebox-scaling":
        return None
    keys = ("median_left_out_error", "worst_left_out_error", "link_bytes_per_second", "weak")
    measured = {"num_points": len(scaling["points"]), "most": max(point["workers"] for point in scaling["points"])}
    return {**{key: scaling[key] for key in keys}, **measured, "cpu": scaling["environment"]["cpu"]}


def _describe_parity(parity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The certificate of `ebox doctor --parity`, where one was put into the run folder."""
    if parity is None or parity.get("format") != "ebox-parity":
        return None
    keys = ("steps", "tolerance", "overrides", "holds", "cases")
    return {key: parity.get(key) for key in keys}


def _list_commands(files: RunFiles) -> list[dict[str, str]]:
    """The command lines that were kept, in the order given; one that did both stands once."""
    kept = [
        ("made the data", format_command(files.dataset.get("command"))),
        (
            "trained the network",
            None if files.environment is None else format_command(files.environment.get("command")),
        ),
        ("evaluated it", format_command(files.evaluation.get("command"))),
    ]
    commands: list[dict[str, str]] = []
    for what, line in kept:
        if line is None:
            continue
        if commands and commands[-1]["line"] == line:
            commands[-1]["what"] += f" and {what}"
        else:
            commands.append({"what": what, "line": line})
    return commands

"""A plan made by hand, in the form of plan.json, for whoever reads one."""

from __future__ import annotations

from typing import Any

from ebox.storage.stamps import PLAN, stamped

JOBS = ("one", "search", "factors")
# name: provider, hardware, platform, kind of price, devices, batch, seconds and money of each job, basis
MACHINES: dict[str, tuple[Any, ...]] = {
    "nebius-h200-x1-spot-b64-exact": (
        "Nebius",
        "H200-SXM",
        "cuda",
        "spot",
        1,
        64,
        (92, 2400, 9800),
        (0.04, 0.97, 3.95),
    ),
    "nebius-h200-x8-spot-b512-exact": ("Nebius", "H200-SXM", "cuda", "spot", 8, 512, (95, 900, 2600), (0.31, 2.9, 8.4)),
    "nebius-h200-x1-b64-exact": ("Nebius", "H200-SXM", "cuda", "on_demand", 1, 64, (90, 2300, 9400), (0.09, 2.2, 9.1)),
    "gcp-tpu-v5e-x1-spot-b256-exact": ("GCP", "TPU-v5e", "tpu", "spot", 1, 256, (210, 5200, 31000), (0.02, 0.43, 2.6)),
    "gcp-tpu-v5e-x16-b1024-exact": ("GCP", "TPU-v5e", "tpu", "on_demand", 16, 1024, (240, 1500, 5100), (1.28, 8, 27)),
    "this-machine-x2-b32-exact": (None, "EPYC", "cpu", "owned", 2, 32, (640, 61000, 610000), (0.011, 1.05, 10.5)),
    "lambda-h100-x1-b64-exact": (
        "Lambda",
        "H100-80GB-SXM",
        "cuda",
        "on_demand",
        1,
        64,
        (98, 2700, 11500),
        (0.1, 3, 12),
    ),
    "aws-a100-x8-b512-half": ("AWS", "A100-40GB-SXM", "cuda", "on_demand", 8, 512, (120, 1900, 6800), (0.5, 7.8, 28)),
}
BEST = {
    "one": "gcp-tpu-v5e-x1-spot-b256-exact",
    "search": "nebius-h200-x1-spot-b64-exact",
    "factors": "nebius-h200-x1-spot-b64-exact",
}


def estimate(value: float, spread: float = 0.15) -> dict[str, float]:
    """A value with an interval of a share of it on both sides."""
    return {"value": value, "low": value * (1 - spread), "high": value * (1 + spread)}


def _make_job(name: str, job: str, seconds: float, money: float) -> dict[str, Any]:
    parts = {"start": 45.0, "compile": 9.0, "train": seconds * 0.5, "validate": 2.0, "checkpoint": 1.0, "lost": 0.5}
    return {
        "seconds": estimate(seconds),
        "money": estimate(money, 0.25),
        "joules": None if name.startswith("gcp") else estimate(seconds * 420.0),
        "machines_at_once": 4 if job == "factors" else 1,
        "parts": parts,
        "money_parts": {"machine": money * 0.9, "host": 0.0, "storage": money * 0.1},
        "pareto": name in (*BEST.values(), "nebius-h200-x8-spot-b512-exact", "this-machine-x2-b32-exact"),
        "within_budget": money < 50,
        "within_deadline": True,
    }


def _make_option(name: str) -> dict[str, Any]:
    provider, hardware, platform, kind, num, batch, seconds, money = MACHINES[name]
    measured = hardware == "EPYC"
    return {
        "id": name,
        "offer": name.partition("-x")[0],
        "provider": provider,
        "hardware": hardware,
        "platform": platform,
        "price_kind": kind,
        "num_devices": num,
        "num_machines": 1,
        "batch_size": batch,
        "precision": "float32" if platform == "cpu" else "bfloat16",
        "exchange": name.rpartition("-")[2],
        "sync": "every-step",
        "step_seconds": estimate(0.0004 * batch / 64),
        "steps": estimate(120_000 / batch, 0.1),
        "efficiency": 1.0 if num == 1 else 0.6,
        "basis": {
            "kind": "measured" if measured else "fitted" if hardware == "H200-SXM" else "modelled",
            "profile": "here" if measured else "h200",
            "error": 0.03 if measured else 0.12 if hardware == "H200-SXM" else None,
            "error_from": "measured_again" if measured else "left_out",
            "parts": {"launch": 1e-4, "arithmetic": 1.4e-4, "memory": 9e-5, "exchange": 0.0, "input": 2e-5},
            "roofline_seconds": 1.1e-5,
        },
        "jobs": {job: _make_job(name, job, s, m) for job, s, m in zip(JOBS, seconds, money, strict=True)},
    }


def _make_tornado(money: float) -> list[dict[str, Any]]:
    best, other = BEST["factors"], "gcp-tpu-v5e-x1-spot-b256-exact"
    rows = [
        ("tornado_price", 0.5, 2.0, 0.55, 1.9, True, 1.6),
        ("tornado_step_seconds", 0.85, 1.15, 0.9, 1.12, False, None),
        ("tornado_steps", 0.9, 1.1, 0.93, 1.08, False, None),
        ("tornado_start", 0.5, 3.0, 0.96, 1.18, False, None),
        ("tornado_interruptions", 0.0, 0.2, 0.99, 1.03, False, None),
    ]
    return [
        {
            "factor": factor,
            "low": low,
            "high": high,
            "money_low": money * by_low,
            "money_high": money * by_high,
            "option_low": best,
            "option_high": other if flips else best,
            "flips": flips,
            "flips_at": at,
        }
        for factor, low, high, by_low, by_high, flips, at in rows
    ]


def make_plan(**changes: Any) -> dict[str, Any]:
    """The facts of a plan for 200 factors of real data; a key of `changes` replaces what the plan has there."""
    options = [_make_option(name) for name in MACHINES]
    by_id = {option["id"]: option for option in options}
    stages = [
        {"stage": stage, "option": option, **{key: by_id[option]["jobs"][job][key] for key in ("seconds", "money")}}
        for stage, option, job in (
            ("pilot", "this-machine-x2-b32-exact", "one"),
            ("search", BEST["search"], "search"),
            ("final", BEST["factors"], "factors"),
        )
    ]
    total = {
        key: {end: sum(stage[key][end] for stage in stages) for end in ("value", "low", "high")}
        for key in ("seconds", "money")
    }
    points = [(1800, 0.884), (3600, 0.912), (7200, 0.931), (14_392, 0.944)]
    facts = {
        "question": {
            "dataset": "data/tal1",
            "fingerprint": "ab" * 32,
            "length_bp": 200,
            "num_train": 14_392,
            "target": {"metric": "auroc", "value": 0.94},
            "budget": 50.0,
            "deadline_hours": None,
            "jobs": {
                "one": {"trainings": 1},
                "search": {"trainings": 100},
                "factors": {"trainings": 1000, "factors": 200, "folds": 5},
            },
        },
        "profiles": [
            {
                "name": name,
                "file": f"bench/{name}.json",
                "created": "2026-11-28T10:00:00+00:00",
                "device": {"name": kind, "platform": platform, "count": 1},
                "hardware": hardware,
            }
            for name, kind, platform, hardware in (
                ("here", "AMD EPYC", "cpu", None),
                ("h200", "NVIDIA H200", "cuda", "H200-SXM"),
            )
        ],
        "prices": {
            "currency": "USD",
            "dates": {"oldest": "2024-12", "newest": "2026-05", "num": 7, "num_undated": 3},
            "sources": ["skypilot-catalog v9/gcp/vms.csv @2c3d7ea", "AWS page on Capacity Blocks"],
            "files": ["prices.toml"],
            "person_per_hour": {"value": 80.0, "source": "assumption", "date": None},
            "remarks": [
                {"code": "prices_old", "num": 2, "oldest": "2024-12", "days": 180},
                {"code": "taxes_excluded", "currency": "USD"},
                {"code": "spot_no_promise"},
            ],
        },
        "accuracy": {"target": 0.94, "reachable": True, "expected": estimate(0.946, 0.004), "from": "learning"},
        "options": options,
        "recommendation": {
            job: {
                "option": option,
                "runner_up": "nebius-h200-x1-b64-exact",
                "rented": "nebius-h200-x1-b64-exact",
                "reasons": [{"code": "plan_fitted", "profile": "h200", "error": 0.12}],
            }
            for job, option in BEST.items()
        },
        "tornado": {job: _make_tornado(by_id[option]["jobs"][job]["money"]["value"]) for job, option in BEST.items()},
        "stages": {
            "plan": stages,
            "total": total,
            "against": {
                "option": BEST["factors"],
                **{key: by_id[BEST["factors"]]["jobs"]["factors"][key] for key in ("seconds", "money")},
            },
            "rule": [{"code": "stages_split", "offers": ["nebius-h200", "this-machine"]}],
        },
        "statistics": {
            "noise_scale": {
                "batch_size": 310.0,
                "low": 240.0,
                "high": 390.0,
                "over_steps": [[10, 120.0], [200, 300.0]],
            },
            "useful_batch": estimate(620.0, 0.25),
            "by_batch": [
                {"batch_size": batch, "steps": estimate(steps, 0.1), "examples": estimate(steps * batch, 0.1)}
                for batch, steps in ((32, 3700.0), (128, 1150.0), (512, 540.0), (2048, 390.0))
            ],
            "most_devices": [
                {
                    "hardware": "H200-SXM",
                    "exchange": exchange,
                    "sync": "every-step",
                    "num_devices": num,
                    "considered": 8,
                    "seconds": estimate(30.0 / num**0.4),
                }
                for exchange, num in (("exact", 4), ("half", 8))
            ],
        },
        "learning_curve": {
            "points": [{"num_examples": num, "auroc": auroc} for num, auroc in points],
            "ceiling": {"value": 0.967, "low": 0.955, "high": 0.981},
            "at_twice": {"value": 0.952, "low": 0.948, "high": 0.956},
            "at_now": {"value": 0.944, "low": 0.942, "high": 0.946},
        },
        "run": "runs/tal1",
        "remarks": [],
    }
    return stamped(PLAN, facts | changes, created="2026-11-29T12:00:00+00:00")

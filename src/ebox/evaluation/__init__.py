"""Metrics with intervals, baselines, and the protocol that turns logits into evaluation.json.

Owns the definition of every accuracy that ebox reports, the bootstrap of its interval, the threshold, which is chosen
on validation data, and the baselines of a network: best PWM hit, GC logistic, k-mer logistic. docs/evaluation.md
specifies what is measured.
"""

from ebox.evaluation.baselines import BaselineResult, LabelledCodes, fit_best_pwm, fit_gc_logistic, fit_kmer_logistic
from ebox.evaluation.bootstrap import (
    BootstrapResult,
    ComparisonResult,
    MetricResult,
    bootstrap_metrics,
    bootstrap_models,
    compare_models,
    compare_scores,
)
from ebox.evaluation.curves import bin_calibration, count_scores, trace_pr, trace_roc
from ebox.evaluation.metrics import (
    METRIC_NAMES,
    accuracy,
    auprc,
    auroc,
    balanced_accuracy,
    brier,
    calibration_error,
    compute_metrics,
    mcc,
    recall_at_fdr,
)
from ebox.evaluation.protocol import evaluate, gather_motifs
from ebox.evaluation.thresholds import choose_threshold

__all__ = [
    "METRIC_NAMES",
    "BaselineResult",
    "BootstrapResult",
    "ComparisonResult",
    "LabelledCodes",
    "MetricResult",
    "accuracy",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bin_calibration",
    "bootstrap_metrics",
    "bootstrap_models",
    "brier",
    "calibration_error",
    "choose_threshold",
    "compare_models",
    "compare_scores",
    "compute_metrics",
    "count_scores",
    "evaluate",
    "fit_best_pwm",
    "fit_gc_logistic",
    "fit_kmer_logistic",
    "gather_motifs",
    "mcc",
    "recall_at_fdr",
    "trace_pr",
    "trace_roc",
]

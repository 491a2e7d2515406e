"""Names of metrics, kinds, baselines and methods, so that every part of a report says the same."""

from __future__ import annotations

from collections.abc import Sequence

from ebox.storage.names import MODEL

# name: (short words, what it means)
METRICS: dict[str, tuple[str, str]] = {
    "auroc": ("AUROC", "how often a positive is ranked above a negative; 0.5 is chance, 1 is perfect"),
    "auprc": ("AUPRC", "precision averaged over recall; chance is the share of positives"),
    "accuracy": ("Accuracy", "share of right calls at the threshold"),
    "accuracy_at_0.5": ("Accuracy at 0.5", "share of right calls where 0.5 is the threshold"),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity; 0.5 is chance"),
    "sensitivity": ("Sensitivity", "share of positives called positive"),
    "specificity": ("Specificity", "share of negatives called negative"),
    "mcc": ("MCC", "correlation of calls and truth at the threshold; 0 is chance"),
    "mcc_at_0.5": ("MCC at 0.5", "the same where 0.5 is the threshold"),
    "recall_at_10_fdr": ("Recall at 10 % FDR", "share of positives found while at most 1 call in 10 is wrong"),
    "recall_at_50_fdr": ("Recall at 50 % FDR", "share of positives found while at most 1 call in 2 is wrong"),
    "brier": ("Brier score", "mean squared error of the probabilities; lower is better"),
    "calibration_error": (
        "Calibration error",
        "mean gap of stated and true share, less what chance adds, which of few examples may be all; lower is better",
    ),
}
BASELINES = {
    "kmer_logistic": ("k-mer logistic", "a logistic regression on counts of short words (k-mers)"),
    "best_pwm": ("Best PWM hit", "the best match of a known motif matrix in the sequence"),
    "motif_logistic": ("Motifs logistic", "a logistic regression on the best matches of several known motif matrices"),
    "gapped_kmer_logistic": ("Gapped k-mer logistic", "a logistic regression on counts of words with gaps"),
    "confound_logistic": ("Not sequence", "a logistic regression on N, GC, CpG and repeats, which reads no word"),
    "gc_logistic": ("GC logistic", "a logistic regression on the GC content alone"),
}
KINDS = {
    "positive": ("Positives", "sequences that carry the signal, such as loci where the factor was found bound"),
    "given": ("Given negatives", "sequences handed in as negatives"),
    "shuffled": ("Shuffled negatives", "positives with their bases shuffled, all dinucleotide counts kept"),
    "other_tracks": ("Positives of other tracks", "sequences that are positive for another track only"),
    "matched": ("Matched negatives", "other windows of the same genome with like GC, away from the peaks"),
}
METHODS = {
    "deeplift": "DeepLIFT/SHAP",
    "saturation": "saturation mutagenesis",
    "integrated": "integrated gradients",
    "gradient": "gradient times input",
}
CALIBRATIONS = {"temperature": "temperature", "platt": "Platt", "isotonic": "isotonic"}
STRANDS = {"++": "both on one strand", "+-": "second turned", "-+": "first turned", "--": "both turned"}


def name_metric(metric: str) -> str:
    """The short words for a metric."""
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ")


def name_baseline(baseline: str, kmer: int | None = None) -> str:
    """The short words for a baseline, or for the model."""
    if baseline == MODEL:
        return "Network"
    if baseline == "kmer_logistic" and kmer is not None:
        return f"{kmer}-mer logistic"
    return BASELINES[baseline][0] if baseline in BASELINES else baseline.replace("_", " ")


def explain_metric(metric: str) -> str:
    """What a metric means."""
    return METRICS[metric][1] if metric in METRICS else ""


def name_method(method: str) -> str:
    """A method of attribution."""
    return METHODS[method]


def name_kind(kind: str) -> str:
    """The short words for a kind of example."""
    return KINDS[kind][0] if kind in KINDS else kind


def explain_kind(kind: str) -> str:
    """What a kind of example is."""
    return KINDS[kind][1] if kind in KINDS else "sequences handed in as negatives under this name"


def format_date(text: str | None) -> str:
    """The day and minute of an ISO time."""
    return "unknown" if not text else text[:16].replace("T", " ") + (" UTC" if len(text) > 10 else "")


def join_words(words: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def quote_any(words: Sequence[str]) -> str:
    """“a”; “a” or “b”; “a”, “b” or “c”."""
    quoted = [f"“{word}”" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"

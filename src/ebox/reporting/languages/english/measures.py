"""Sentences about what was measured: the headline, what could not be measured or fitted, and the limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ebox.drawing.numbers import (
    format_count,
    format_interval,
    format_number,
    format_p,
    format_percent,
    format_spread,
)
from ebox.reporting.languages.english.names import (
    CALIBRATIONS,
    explain_kind,
    join_words,
    name_baseline,
    name_kind,
    name_metric,
)


def _tell_auroc(result: Mapping[str, Any]) -> str:
    ends = {key: None if result[key] is None else 100 * result[key] for key in ("low", "high")}
    interval = format_interval(ends, 1)
    inside = f" (95 % interval {interval})" if interval else ""
    part = "which played no part in training"
    if result["num_seen"]:
        part = f"of which {result['num_seen']:,} also stand in the training split and flatter the result"
    count = "" if result["num_examples"] is None else f"{result['num_examples']:,}"
    return (
        f"Take one positive and one negative from the {count} test sequences, {part}: the network ranks the "
        f"positive higher {format_number(100 * result['value'], 1)} times in 100{inside}. A coin would do so 50 times."
    )


def _tell_comparison(result: Mapping[str, Any]) -> str:
    value = result["value"]
    reached = "stands beside it" if value is None else f"does so {format_number(100 * value, 1)} times"
    told: list[str] = []
    for metric, test in result["tests"].items():
        interval = format_interval(test["difference"])
        told.append(
            f"{'T' if not told else 't'}he difference in {name_metric(metric)} is "
            f"{format_number(test['difference']['value'])} (95 % interval {interval}; {format_p(test['p_value'])}), "
            f"which is {'more' if test['is_sure'] else 'no more'} than chance explains"
        )
    baseline = name_baseline(result["baseline"], result["kmer"])
    return f"The baseline that did best on validation data, {baseline}, {reached}. {'; '.join(told)}."


def _tell_relatives(found: Mapping[str, Any]) -> str:
    whole, without = found["with"], found["without"]
    of = f"{found['num_relatives']:,} of {whole['num_examples']:,} test sequences have a relative in training"
    if without["metrics"] is None or whole["metrics"] is None:
        return f"{of}, and too few are left to measure without them: the figures may be too good."
    values = {
        name: join_words(
            [
                f"{name_metric(metric)} {format_number(part['metrics'][metric]['value'])}"
                for metric in ("auroc", "auprc")
            ]
        )
        for name, part in (("with", whole), ("without", without))
    }
    if found["taken"] == "without":
        return f"{of}. They flatter, so all figures here are without them; with them: {values['with']}."
    return f"{of}. Without them: {values['without']}."


def _tell_seeds(found: Mapping[str, Any]) -> str:
    told = [f"{name_metric(metric)} {format_spread(entry)}" for metric, entry in found["metrics"].items()]
    return f"Over {len(found['seeds'])} seeds, mean ± standard deviation: {', '.join(told)}."


def _tell_few(found: Mapping[str, Any]) -> str:
    return (
        f"Independent positives: {found['positive']:,}, independent negatives: {found['negative']:,} (families and "
        f"overlapping loci count once). An interval, a comparison or a verdict needs {found['needed']} of each or "
        "more. Give more sequences, or a larger share of them to this split."
    )


def _title_verdict(template: str) -> Callable[[Mapping[str, Any]], str]:
    def tell(title: Mapping[str, Any]) -> str:
        return template.format(
            **{key: name_metric(str(value)) if key != "track" else value for key, value in title.items()}
        )

    return tell


def _promise(found: Mapping[str, Any]) -> str:
    """What a threshold for a false discovery rate would keep."""
    return f"at most {format_percent(found['fdr'], 0)} false calls at 1 positive to {found['odds']:,.4g} negatives"


def _tell_few_negatives(found: Mapping[str, Any]) -> str:
    return (
        f"{found['num_negative']:,} independent validation negatives are too few to promise {_promise(found)}: "
        f"{found['needed']:,} are needed"
    )


def _tell_unreached(found: Mapping[str, Any]) -> str:
    return f"no threshold gives {_promise(found)} on validation"


def _tell_calibrated(found: Mapping[str, Any]) -> str:
    moved = f"the logits were multiplied by {format_number(found['scale'])}"
    # A training by an older ebox says no method; it was Platt's.
    method = found.get("method", "platt")
    if method != "temperature":
        moved += f" and raised by {format_number(found['offset'])}"
    if method == "isotonic":
        moved += f", then bent by a rising curve of {len(found['knots']['logits']):,} knots"
    name = CALIBRATIONS[method]
    told = (
        f"The probabilities were calibrated after training ({name}), on {found['num_examples']:,} validation examples: "
    )
    told += f"{moved}. That changes no ranking."
    if found.get("compared") is None:
        return told
    losses = [f"{CALIBRATIONS[one]} {format_number(entry['loss'], 4)}" for one, entry in found["compared"].items()]
    return f"{told} It is the simplest that is no worse than the best, by cross-validated loss: {', '.join(losses)}."


def _tell_few_for_set(found: Mapping[str, Any]) -> str:
    return (
        f"to be right for {format_percent(found['coverage'], 0)} of each class they need {found['needed']:,} "
        f"independent validation examples of each that have no relative in training, and there are "
        f"{found['positive']:,} positives and {found['negative']:,} negatives"
    )


def _tell_accuracy(result: Mapping[str, Any]) -> str:
    words = f"At a threshold fixed on validation data it is right about {format_percent(result['value'])} of the test "
    words += "sequences"
    if result["usual"] is None:
        return words + "."
    usual = format_percent(result["usual"])
    return f"{words}; always giving the more frequent answer would be right about {usual}."


def _tell_unmeasured(result: Mapping[str, Any]) -> str:
    missing = "no metrics" if result["reason"] is None else MEASURES[result["reason"]["code"]]
    return f"The test split holds {missing} for this track."


def _tell_threshold(threshold: Mapping[str, Any]) -> str:
    words = f"Calls are made at the threshold {format_number(threshold['value'])}"
    criterion = threshold["criterion"]
    if not criterion:
        return f"{words}; none could be chosen on validation data."
    name = name_metric(criterion)
    name = name if criterion == "mcc" else name.lower()
    return f"{words}, which gives the best {name} on the {threshold['split']} split."


def _tell_best_pwm(fitted: Mapping[str, Any]) -> str:
    name = f"{fitted['motif']} ({fitted['alt_name']})" if fitted["alt_name"] else fitted["motif"]
    many = fitted["num_motifs"] > 1
    choice = f", the best of {fitted['num_motifs']:,} motifs on validation" if many else ""
    source = f" of {fitted['source']}" if fitted.get("source") else ""
    return f"best log-odds hit of {name}{source} on either strand{choice}"


def _tell_logistic(features: str) -> Callable[[Mapping[str, Any]], str]:
    def tell(fitted: Mapping[str, Any]) -> str:
        num, every = fitted["num_train"], fitted["num_all"]
        share = "" if num == every else f", fitted to {num:,} of {every:,} training examples"
        return f"logistic regression on {features.format(**fitted)}{share}"

    return tell


def _tell_confounds(fitted: Mapping[str, Any]) -> str:
    of_genome = ", repeats of the genome" if fitted.get("masked") else ""
    features = f"what is not a word: N and where it stands, GC, CpG, tandem repeats{of_genome}"
    return _tell_logistic(features)(fitted)


def _limit_negatives(limit: Mapping[str, Any]) -> str:
    kinds = join_words([f"{name_kind(kind).lower()} ({explain_kind(kind)})" for kind in limit["kinds"]])
    asked = f"The network was asked to tell positives from {kinds if kinds else 'the negatives given'}. "
    if limit["kinds"] == ["shuffled"]:
        return asked + (
            "Shuffled sequences are easy: anything genomic, such as a repeat or a CpG island, gives the positives "
            "away. Expect less on real genomic negatives."
        )
    return asked + "Against other negatives, such as open chromatin that is not bound, the scores will differ."


def _limit_odds(limit: Mapping[str, Any]) -> str:
    return (
        f"Here {format_percent(limit['share'])} of the test sequences are positive. Were it 1 window in "
        f"{format_count(limit['odds'])}, as in a scan of a genome, then at the same threshold about "
        f"{format_percent(limit['precision'])} of the windows called positive would be, if the rest of the genome is "
        "like these negatives. A scan needs a higher threshold."
    )


def _limit_split(limit: Mapping[str, Any]) -> str:
    told = {
        "chromosome": "No test sequence comes from a chromosome that was trained on. Repeats and gene families still "
        "occur on both sides, as in any genome; the audit above counts the near-identical ones.",
        "random": "Test sequences come from the same chromosomes as training ones. Near-identical sequences were kept "
        "on one side, but neighbours share composition and repeats. Hold out whole chromosomes where coordinates are "
        "known.",
    }
    given = "Train, validation and test were handed in as they are. See the audit above for what they share."
    return told.get(limit["mode"], given)


def _limit_spent_once(limit: Mapping[str, Any]) -> str:
    told = (
        "These numbers are fair only if no setting was chosen by looking at them. Choosing among runs by their test "
        "scores makes the best of them look better than it is."
    )
    if limit["num_reads"] is None:
        return told
    times = "once" if limit["num_reads"] == 1 else f"{limit['num_reads']:,} times"
    return f"{told} With this network the test split was read {times}."


def _title_split(limit: Mapping[str, Any]) -> str:
    told = {"chromosome": "Whole chromosomes were held out", "random": "A random split flatters"}
    return told.get(limit["mode"], "The split was given")


GONE = "the training data of the network are gone or have changed"
UNKNOWN = "there are no baselines, and whether these sequences trained it is not known"
TELLS = "The network tells “{track}” sequences from the others"
MEASURES: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    # What could not be measured or fitted.
    "no_examples": "no examples",
    "no_negatives": "no negatives",
    "no_positives": "no positives",
    "few_clusters": _tell_few,
    "seeds": _tell_seeds,
    "test_relatives": _tell_relatives,
    "few_negatives": _tell_few_negatives,
    "fdr_not_reached": _tell_unreached,
    "no_calls": "nothing is called",
    "few_for_odds": "an interval needs {needed:,} independent negatives; there are {negative:,}",
    "kmer_too_long": "sequences of {length_bp} bp hold no {kmer}-mers",
    "no_motif_fits": "none of {num_motifs} motifs fits into sequences of {length_bp} bp",
    "one_class": "positive and negative examples are needed, and in the {in} split there is one class only",
    "no_training_data": "the training data of the network are gone",
    "calibrated_by_temperature": "a temperature leaves them at the share of positives that training showed",
    "not_calibrated": "the network was not calibrated, so they hold at the share of positives that training showed",
    "few_of_a_class": "validation has fewer than {least} examples of a class",
    "few_for_set": _tell_few_for_set,
    "calibrated": _tell_calibrated,
    "no_better_than_chance": "the network ranks validation no better than chance",
    # What a baseline is.
    "best_pwm": _tell_best_pwm,
    "motif_logistic": _tell_logistic("the best hits of {num_chosen} of {num_motifs:,} motifs"),
    "gc_logistic": _tell_logistic("the GC fraction and its square"),
    "confound_logistic": _tell_confounds,
    "gapped_kmer_logistic": _tell_logistic("counts of gapped k-mers ({word_bp} bp, {informed} of them informed)"),
    "kmer_logistic": _tell_logistic("{kmer}-mer counts of both strands"),
    # The answer.
    "verdict_unknown": "“{track}” could not be measured on the test split",
    "verdict_none": "The network does not tell “{track}” sequences from the others",
    "verdict_alone": TELLS,
    "verdict_better": f"{TELLS}, and better than the best baseline",
    "verdict_few": "Too few independent test sequences to say anything about “{track}”",
    "verdict_partly": _title_verdict(f"{TELLS}, and in {{better}} better than the best baseline"),
    "verdict_mixed": _title_verdict(f"{TELLS}, in {{better}} better and in {{worse}} worse than a baseline"),
    "verdict_equal": f"{TELLS}, but not measurably better than a baseline",
    "verdict_told": f"{TELLS}, but the planted motif itself does better",
    "verdict_worse": f"{TELLS}, but worse than a simple baseline",
    "unmeasured": _tell_unmeasured,
    "auroc": _tell_auroc,
    "comparison": _tell_comparison,
    "told_motif": "That baseline was handed {motif}, the very motif that was planted. The network was told nothing, "
    "and had to find it.",
    "accuracy": _tell_accuracy,
    "threshold": _tell_threshold,
    # What the numbers do not show.
    "limit_negatives": _limit_negatives,
    "limit_odds": _limit_odds,
    "limit_split": _limit_split,
    "limit_simulated": "The sequences were made by a known rule. A network that reads them well has learned that rule; "
    "how well it reads a genome is another question.",
    "limit_binding": "A sequence called positive is like those that were positive in the data given, in the cells and "
    "under the conditions in which they were measured. That says nothing about effect on a gene, and little about "
    "other cells. Errors in the labels also cap every score.",
    "limit_one_run": "The intervals say what another draw of test sequences, by families and loci, would change. They "
    "hold neither the spread between training runs with other seeds nor that between laboratories.",
    "limit_seeds": "The intervals say what another draw of test sequences, by families and loci, would change; the "
    "± over several seeds says what another training would. Neither holds the spread between "
    "laboratories.",
    "limit_spent_once": _limit_spent_once,
    # Of an evaluation, in the console.
    "chosen_on_training_data": "thresholds and baselines are those of the training data of the network",
    "chosen_on_evaluation": f"{GONE}: thresholds are those of its earlier evaluation, {UNKNOWN}",
    "chosen_on_nothing": f"{GONE}, and it was not measured before: calls are made at 0.5, {UNKNOWN}",
    "test_reads": "these test sequences were measured {num_reads:,} times with this network",
    "limit_likeness": "A filter that resembles a known motif fires on sequences like it. It does not prove which "
    "protein binds there: families of factors share motifs.",
    "title_limit_negatives": "The negatives set the difficulty",
    "title_limit_odds": "A genome is mostly negative",
    "title_limit_split": _title_split,
    "title_limit_simulated": "Simulated sequences are tidier than real ones",
    "title_limit_binding": "Binding is not function",
    "title_limit_one_run": "One training run",
    "title_limit_seeds": "Two spreads, and not a third",
    "title_limit_spent_once": "The test split is spent once",
    "title_limit_likeness": "Likeness is not identity",
}

import numpy as np
import pytest

from ebox.datasets.cleaning import measure_gc
from ebox.datasets.examples import Examples, make_examples, places_of
from ebox.datasets.negatives import choose_models, match_positives, shuffle_positives
from ebox.sequences.genome import Genome
from ebox.sequences.intervals import Intervals, distance_to_nearest, make_intervals, overlaps_any
from ebox.settings.reading import DataConfig

LENGTH = 50


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    """Two contigs of 60 and 30 kb whose GC wanders between 0.3 and 0.7; an N gap in the first."""
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    random = np.random.default_rng(1)
    contigs = []
    for size in (60_000, 30_000):
        strong = random.random(size) < 0.5 + 0.2 * np.sin(np.arange(size) / 300)
        contigs.append(np.where(strong, random.integers(1, 3, size), random.choice([0, 3], size)).astype(np.uint8))
    contigs[0][20_000:25_000] = 4
    text = [f">{name}\n{''.join('ACGTN'[code] for code in codes)}\n" for name, codes in zip("ab", contigs, strict=True)]
    path.write_text("".join(text))
    return Genome(path)


def _positives(genome: Genome, num: int, seed: int = 0) -> Examples:
    random = np.random.default_rng(seed)
    chrom = np.array(["a"] * (num * 2 // 3) + ["b"] * (num - num * 2 // 3), dtype=object)
    start = np.sort(random.integers(0, 19_000, num)).astype(np.int64)
    return make_examples(
        genome.fetch_windows(chrom, start, LENGTH),
        [f"p{row}" for row in range(num)],
        target=1,
        kind=0,
        source=0,
        chrom=chrom,
        start=start,
        end=start + LENGTH,
    )


def _match(positives: Examples, genome: Genome, config: DataConfig, blacklist: Intervals | None = None) -> Examples:
    avoid = [places_of(positives, np.arange(len(positives)))]
    return match_positives(positives, genome, avoid, blacklist, config, kind=1, source=2)


def test_matched_negatives_keep_every_promise(genome: Genome) -> None:
    positives = _positives(genome, 90)
    config = DataConfig(min_peak_distance_bp=200)
    blacklist = make_intervals(["a"], [30_000], [40_000])
    made = _match(positives, genome, config, blacklist=blacklist)
    everything = np.arange(len(made))
    places = places_of(made, everything)
    assert len(made) == 90
    assert (made.targets == 0).all()
    assert (np.unique(made.chrom, return_counts=True)[1] == [60, 30]).all()
    distance = distance_to_nearest(places, places_of(positives, np.arange(90)))
    assert distance[distance >= 0].min() >= 200
    assert not overlaps_any(places, blacklist).any()
    np.testing.assert_array_equal(made.codes, genome.fetch_windows(made.chrom, made.start, LENGTH))
    assert ((made.codes > 3).mean(axis=1) <= config.max_n_fraction).all()
    for chrom in "ab":
        start = np.sort(made.start[made.chrom == chrom])
        assert (np.diff(start) >= LENGTH).all()
        wanted = np.sort(measure_gc(positives.codes[positives.chrom == chrom]))
        found = np.sort(measure_gc(made.codes[made.chrom == chrom]))
        # One of 50 bases is 0.02, the tolerance.
        assert np.abs(wanted - found).max() <= 0.02 + 1e-6


def test_matched_gc_has_no_bias(genome: Genome) -> None:
    positives = _positives(genome, 120)
    made = _match(positives, genome, DataConfig(min_peak_distance_bp=0, gc_tolerance=0.1))
    assert abs(measure_gc(made.codes).mean() - measure_gc(positives.codes).mean()) < 0.004


def test_matched_negatives_depend_on_the_seed_alone(genome: Genome) -> None:
    positives = _positives(genome, 30)
    first, again, other = (_match(positives, genome, DataConfig(seed=seed)) for seed in (3, 3, 4))
    assert first.names == again.names
    assert first.names != other.names


def test_no_room_gives_fewer_negatives_not_worse_ones(genome: Genome) -> None:
    positives = _positives(genome, 90)
    made = _match(positives, genome, DataConfig(min_peak_distance_bp=100_000))
    assert len(made) == 0
    crowded = _match(positives, genome, DataConfig(min_peak_distance_bp=0, negative_ratio=30.0))
    assert 500 < len(crowded) < 2700
    for chrom in "ab":
        assert (np.diff(np.sort(crowded.start[crowded.chrom == chrom])) >= LENGTH).all()


def test_models_are_used_evenly() -> None:
    counts = np.bincount(choose_models(10, 2.5, seed=0), minlength=10)
    assert counts.sum() == 25
    assert set(counts.tolist()) == {2, 3}
    assert len(choose_models(10, 0.01, seed=0)) == 1


def test_shuffles_keep_dinucleotides_and_know_their_parent(genome: Genome) -> None:
    positives = _positives(genome, 20)
    made = shuffle_positives(positives, DataConfig(negative_ratio=2.0), kind=1)
    assert len(made) == 40
    for row in range(40):
        parent = positives.codes[made.parent[row]].astype(np.int64)
        shuffled = made.codes[row].astype(np.int64)
        assert np.array_equal(
            np.bincount(shuffled[:-1] * 5 + shuffled[1:], minlength=25),
            np.bincount(parent[:-1] * 5 + parent[1:], minlength=25),
        )
    assert (made.start == -1).all()

"""The names of the files of an explanation."""

EXPLANATION = "explanation"
FACTS = "explanation.json"
MOTIFS = "motifs.meme"
FILTERS = "filters.meme"
HITS = "hits.bed"
CONTRIBUTIONS = "contributions.npz"
BIGWIG = "contributions.bw"
FORMAT_VERSION = 1
# Where contributions are streamed to; a later call goes on from it.
WORK = ".explanation.part"

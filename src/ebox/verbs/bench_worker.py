"""A process of a bench: `python -m ebox.verbs.bench_worker REQUEST`, the request as JSON. It answers over its pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ebox.diagnosis.bench_probe import Request, Validate, measure
from ebox.errors import InputError
from ebox.workers.contract import Pipe

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from ebox.datasets.folder import Dataset
    from ebox.settings.reading import Config


def make_validate(data: Dataset, config: Config, mesh: Mesh) -> Validate:
    """What measures a network as a training does."""
    from ebox.evaluation.validation import ValidationSplit

    return ValidationSplit(data, config.evaluation, mesh).measure


def main(text: str) -> int:
    """Measure what is asked for; the exit code is that of the error, if there is one."""
    pipe = Pipe.from_environment()

    def tell(kind: str, **content: Any) -> None:
        if pipe is not None:
            pipe.send(kind, content)

    try:
        measure(Request.read(text), tell, make_validate)
    except InputError as error:
        tell("error", **error.facts())
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

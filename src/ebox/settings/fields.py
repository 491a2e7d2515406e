"""What a setting is: a field with everything about it, in a frozen section; and the kinds of number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
# Far above any useful value, and below what arrays can count.
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]


# Seeds are below it.
SEED_END = 2**32
Seed = Annotated[int, Field(ge=0, lt=SEED_END)]


def setting(
    default: Any,
    description: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    changes_result: bool = True,
    **constraints: Any,
) -> Any:
    """A field with everything about it: its help, its flag, its row in the settings page, its part in a run's identity.

    Args:
        default: Its value if none is given.
        description: What it means, in a sentence for the help.
        flag: Its option on the command line, for the verbs that read its section; None: only `--set`.
        metavar: The name of the value in the help; None: its type.
        changes_result: Whether a training with another value is another training; read in sections that train.
        **constraints: Constraints of pydantic's `Field`.
    """
    more: dict[str, Any] = {"flag": flag, "metavar": metavar, "changes_result": changes_result}
    return Field(default, description=description, json_schema_extra=more, **constraints)


def shared_seed() -> Any:
    """The seed of a section; one flag sets the seeds of all sections that have it."""
    return setting(
        0, "Seed of data, training and evaluation; the same seed draws the same random numbers.", flag="--seed"
    )


class Settings(BaseModel):
    """A frozen section of the settings; unknown keys are errors."""

    # Whether the settings of the section belong to the identity of a training.
    trains: ClassVar[bool] = False

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """TOML has no null, so the files say "none"."""
        if not isinstance(values, Mapping):
            return values
        return {key: None if value == "none" else value for key, value in values.items()}

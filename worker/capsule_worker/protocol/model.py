"""What the models have in common that cross between processes, or are kept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from capsule_worker.protocol.pydantic_plugins import without_plugins


class Model(BaseModel):
    """Cannot be changed, knows all its fields, and gets its validator when it is used first.

    There are sixty of them, each takes a millisecond to build, and a kernel needs five to begin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the validator, as pydantic asks for it when the model is used first."""
        with without_plugins():
            return super().model_rebuild(**options)

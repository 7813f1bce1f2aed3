"""The base of the models that are sent between processes, or stored."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from capsule_worker.protocol.pydantic_plugins import without_plugins


class Model(BaseModel):
    """A frozen model without unknown fields, whose validator is built when it is first used.

    There are sixty models, each takes a millisecond to build, and a kernel needs five to start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the validator. Pydantic calls this when the model is first used.

        Args:
            options: pydantic's.
        """
        with without_plugins():
            return super().model_rebuild(**options)

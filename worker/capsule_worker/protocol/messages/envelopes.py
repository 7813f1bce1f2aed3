"""The messages that carry requests of cells and their answers.

A kernel needs them late, and what they carry is a third of all models: those are imported, and the validators of these
messages built, when the first request is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from capsule_worker.protocol.messages.base import MessageModel, MimeBundle

if TYPE_CHECKING:
    from capsule_worker.protocol.messages.answers import Answer
    from capsule_worker.protocol.messages.requests import KernelRequest

FailureCode = Literal["not_found", "ambiguous", "unavailable", "invalid", "too_many", "internal"]


class _Envelope(MessageModel):
    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Import what the message carries, and build the validator."""
        from capsule_worker.protocol.messages.answers import Answer
        from capsule_worker.protocol.messages.requests import KernelRequest

        types = {**globals(), "Answer": Answer, "KernelRequest": KernelRequest}
        return super().model_rebuild(**{**options, "_types_namespace": types})


class RequestMessage(_Envelope):
    """Code of a cell requests something of the front. Answered by exactly one ``AnswerMessage``."""

    type: Literal["request"] = "request"
    id: str
    execution_id: str
    request: Annotated[KernelRequest, Field(discriminator="kind")]


class RequestFailure(MessageModel):
    """Why a request was refused, and what to do."""

    code: FailureCode
    message: str
    suggestion: str = ""


class AnswerMessage(_Envelope):
    """The answer to a request and what to display of it, or (``error``) why there is none."""

    type: Literal["answer"] = "answer"
    request_id: str
    answer: Annotated[Answer, Field(discriminator="kind")] | None = None
    display: MimeBundle = Field(default_factory=dict)
    error: RequestFailure | None = None

"""What all shapes of answers have in common."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Answer"]


class Answer(BaseModel):
    """Base of the answers: descriptions stand under the fields, and nothing undocumented is answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

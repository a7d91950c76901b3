"""What leaves a run: its chains for other programs, and a record of it for an archive."""

from latflow.exports.formats import FORMATS, Format, export, format_of

__all__ = ["FORMATS", "Format", "export", "format_of"]

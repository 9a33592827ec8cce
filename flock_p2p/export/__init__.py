"""`export`: the global adapter of a stopped home as a PEFT folder; `merge`: such a folder and its base as one model."""

from flock_p2p.export.folder import ExportResult, export_adapter
from flock_p2p.export.origin import choose_task

__all__ = ["ExportResult", "choose_task", "export_adapter"]

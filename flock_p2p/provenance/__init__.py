"""Where an exported adapter came from, as a file that a third party checks without the network and without a home."""

from flock_p2p.provenance.check import check_provenance
from flock_p2p.provenance.collect import collect_provenance
from flock_p2p.provenance.document import FILE_NAME, GLOBAL_NAME, Provenance
from flock_p2p.provenance.report import ProvenanceReport, format_provenance

__all__ = [
    "FILE_NAME", "GLOBAL_NAME", "Provenance", "ProvenanceReport", "check_provenance", "collect_provenance",
    "format_provenance",
]  # fmt: skip

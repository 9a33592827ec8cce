"""`verify`: replay a stopped home's chain and recompute every tally, filter and adapter from what it stores."""

from flock_p2p.verify.home import verify_home
from flock_p2p.verify.report import AdapterRow, Progress, VerifyReport, format_report

__all__ = ["AdapterRow", "Progress", "VerifyReport", "format_report", "verify_home"]

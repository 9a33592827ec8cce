"""What all stake decided about a round's accusations, against what its proposals are."""

from collections.abc import Mapping
from typing import Any

from flock_p2p.verify.report import VerifyReport


def check_case(
    where: str, result: Mapping[str, Any], case: Mapping[str, Any], truth: Mapping[int, bool], report: VerifyReport
) -> None:
    """`truth`: by proposer index, whether the accusation is true; without those that cannot be recomputed here."""
    for index, account in enumerate(result["proposers"]):
        if not case["named"] >> index & 1:
            continue
        name = f"{where}, accusation of 0x{account.hex()}"
        is_convicted = bool(case["convicted"] >> index & 1)
        if is_convicted != (2 * case["guilty"][index] > case["total"]):
            report.fail(f"{name}: the chain does not decide as more than half of the stake says")
        if index not in truth:
            report.skip(f"{name}: not recomputed: what it is about is not stored here")
        elif is_convicted and not truth[index]:
            report.fail(f"{name}: it lost a part of its bond, but the accusation is false")
        elif truth[index] and not is_convicted:
            is_open = bool(case["open"] >> index & 1)
            report.remarks.append(f"{name}: true, but " + ("not decided" if is_open else "not confirmed in time"))
        elif not truth[index]:
            report.remarks.append(f"{name}: false; its bond is its own")

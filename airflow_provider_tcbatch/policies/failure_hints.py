"""What to do about a failure, where its reason or exit code is known to mean something."""

from __future__ import annotations

__all__ = ["advice", "exit_code_advice", "lacks_stock"]

#: What to change, by a part of the reason. The service does not document its reasons: they are codes of CVM mostly, and
#: are always shown as they are. The first that matches counts.
_ADVICE = (
    (
        ("SoldOut", "InsufficientOffering", "WithoutStock"),
        "no stock: name other types in EnvData.InstanceTypes, which are tried in order, or another zone "
        "(TCBatchHook.check_instance_types says what can be had)",
    ),
    (
        ("InsufficientPrice", "SpotPrice"),
        "the bid for spot machines is too low: raise EnvData.InstanceMarketOptions.SpotOptions.MaxPrice, or leave out "
        "InstanceChargeType SPOTPAID",
    ),
    (
        ("LimitExceeded", "Quota"),
        "the account's quota for CVM instances in this zone is used up: ask for fewer nodes, or for a larger quota",
    ),
    (
        ("InvalidImageId", "Image"),
        "the image can't be used: EnvData.ImageId must exist in this region and suit the instance type",
    ),
    (
        ("InvalidInstanceType", "InstanceType"),
        "the instance type is not offered here: change EnvData.InstanceType (TCBatchHook.check_instance_types says "
        "what can be had)",
    ),
    (("Vpc", "Subnet", "SecurityGroup"), "the network can't be used: check EnvData.VirtualPrivateCloud"),
    (("Balance", "Arrears"), "the account has no credit left"),
)

#: What exit codes mean by the shell's convention: 128 and the number of the signal that ended the program.
_EXIT_CODES = {
    126: "exit code 126: the command was found but can't be executed: check its mode, and that it fits the image",
    127: "exit code 127: the command was not found: check Application.Command, and what the image or package contains",
    134: "exit code 134: the program aborted itself (SIGABRT)",
    137: "exit code 137: the program was killed (SIGKILL), mostly because memory ran out: take an instance type with "
    "more memory, or let the program use less",
    139: "exit code 139: the program read or wrote memory that it does not have (SIGSEGV)",
    143: "exit code 143: the program was asked to end (SIGTERM): the job was terminated, its Timeout was reached, or "
    "its machine was taken back",
}


def exit_code_advice(code: int | None) -> str | None:
    """What an exit code says beyond being none of 0; ``None`` where it is the program's own affair."""
    return _EXIT_CODES.get(code or 0)


def lacks_stock(reason: str) -> bool:
    """Whether another instance type would help."""
    return any(part in reason for part in _ADVICE[0][0])


def advice(reason: str) -> str | None:
    """What to change so that machines can be had; ``None`` where nothing is known."""
    return next((text for parts, text in _ADVICE if any(part in reason for part in parts)), None)

"""The error tree. A class says whose fault it is; a message names the check that failed.

FlockError
  InvalidRemote      another peer's fault: drop it, name it, go on
    InvalidEncoding    bytes that do not decode, or decode but are not canonical
    InvalidSignature   a signature that does not belong to whom it claims
    InvalidContent     bytes that do not match their content id, or an adapter that is not well formed
    InvalidBlock       a block, certificate or transaction that breaks a consensus rule
  Misuse             our own caller's fault: a bug here
  Refused            this peer declines to act, to protect its stake or its disk
  Unavailable        nobody's fault yet: not here, not now; try again or elsewhere
"""


class FlockError(Exception):
    """Everything that this project raises on purpose."""


class InvalidRemote(FlockError):
    """Input from another peer breaks a rule."""


class InvalidEncoding(InvalidRemote):
    """Bytes that do not decode, or that are not the one canonical encoding."""


class InvalidSignature(InvalidRemote):
    """A signature that does not belong to the account that it claims."""


class InvalidContent(InvalidRemote):
    """Bytes that do not match their content id, or content that is not well formed."""


class InvalidBlock(InvalidRemote):
    """A block, certificate or transaction that breaks a rule of the chain."""


class Misuse(FlockError):
    """Our own caller broke a contract of the function."""


class Refused(FlockError):
    """This peer declines, to protect its stake, its key or its disk."""


class Unavailable(FlockError):
    """What was asked for is not here, or not yet."""

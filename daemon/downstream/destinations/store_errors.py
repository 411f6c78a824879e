"""What goes wrong with object storage, a local folder or a Delta table, as errors that say what to do.

The texts of the libraries have request headers, addresses with signatures, and pages of causes. None of it is shown: a cause is
recognized, and told in our words. Of an unknown one, only the code of the server's answer is shown, or the kind of the error.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...core.errors import StrandlineError, Unavailable
from ..contract import DownstreamFailed


@dataclass(frozen=True, slots=True)
class _Cause:
    pattern: str  # of the library's text
    error: type[StrandlineError]
    cause: str
    advice: str


_CHECK_OPTIONS = (
    "check what `options` or the environment gives (AWS_ACCESS_KEY_ID …; `strandline docs MIRROR` has the names)"
)
_CAUSES = (  # the first that fits
    _Cause(
        r"RequestTimeTooSkewed|RequestNotYetValid", Unavailable, "the clock of this machine is off by minutes",
        "set it, for example with `timedatectl set-ntp true`",
    ),
    _Cause(
        r"ExpiredToken|TokenRefreshRequired|RequestExpired|ExpiredAuthenticationToken", Unavailable,
        "the credentials have expired", "renew them",
    ),
    _Cause(
        r"/latest/(?:api/token|meta-data)|169\.254\.|metadata\.google|NoCredentials", Unavailable,
        "there are no credentials", _CHECK_OPTIONS,
    ),
    _Cause(
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|InvalidClientTokenId|AuthenticationFailed|InvalidSecurity"
        r"|InvalidAuthenticationInfo|invalid_grant|Unauthenticated|\b401 Unauthorized", Unavailable,
        "the credentials are not accepted", _CHECK_OPTIONS,
    ),
    _Cause(
        r"NoSuchBucket|ContainerNotFound|InvalidBucketName|specified bucket does not exist", DownstreamFailed,
        "there is no such bucket", "create it, or correct `url`",
    ),
    _Cause(
        r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|\b301 Moved|[Rr]eceived redirect",
        DownstreamFailed, "the bucket is in another region", 'write the region into `options`, as region = "eu-west-1"',
    ),
    _Cause(
        r"AccessDenied|AllAccessDisabled|AuthorizationFailure|AuthorizationPermissionMismatch|PermissionDenied|\b403 Forbidden",
        Unavailable, "the credentials do not allow it", "let them list, read, write and delete objects there",
    ),
    _Cause(
        r"SlowDown|ServerBusy|ServiceUnavailable|TooManyRequests|\b503 |\b429 ", Unavailable,
        "the store asks for fewer requests, or is not available", "nothing is to be done if it goes away",
    ),
    _Cause(
        r"No space left|StorageFull|QuotaExceeded|XMinioStorageFull|os error (?:28|122)\b", Unavailable,
        "there is no space left", "make some",
    ),
    _Cause(
        r"os error (?:1|13|30)\b|Permission denied|Read-only file system", DownstreamFailed,
        "strandline may not write there", "give it the right to",
    ),
    _Cause(
        r"Is a directory|Not a directory|os error (?:17|20|21)\b", DownstreamFailed, "something else has that name",
        "move it away",
    ),
    _Cause(
        r"UnknownConfigurationKey|Configuration key", DownstreamFailed, "`options` has a name that the store does not know",
        "`strandline docs MIRROR` has the names",
    ),
    _Cause(
        r"^ValueError|Generic Config error|failed to parse|Unable to recognise URL|InvalidEndpoint", DownstreamFailed,
        "a value of `options`, or `url`, is not what the store expects", "correct it; `strandline docs MIRROR` has examples",
    ),
    _Cause(
        r"BadScheme|builder error", DownstreamFailed, "the endpoint has http://, and is not encrypted",
        'if that is meant, write allow_http = "true" into `options`',
    ),
    _Cause(
        r"[Tt]imed ?out|kind: Timeout|deadline has elapsed", Unavailable, "the store did not answer in time",
        "check the network, and `endpoint`",
    ),
    _Cause(
        r"error sending request|[Cc]onnect|dns error|broken pipe|IncompleteMessage|decoding response body|body error",
        Unavailable, "the store cannot be reached, or closed the connection", "check the network, and `endpoint`",
    ),
    _Cause(r"\b5\d\d (?:[A-Z]|<)", Unavailable, "the store has an error of its own", "look at its state if it stays"),
)  # fmt: skip
_ERRNOS = {errno.ENOSPC: "No space left", errno.EDQUOT: "QuotaExceeded"}
_SHOWN_CHARACTERS = 200
_NOT_SHOWN = re.compile(r"\x1b\[\d*m|\?\S+|<.*", re.DOTALL)  # colours, queries of addresses, answers
_CODE = re.compile(r"<Code>(\w{1,80})</Code>")


@contextmanager
def telling(where: str, attempted: str, refused: type[StrandlineError] = Unavailable) -> Iterator[None]:
    """Raises what a library raises as an error of ours. `refused`: what an unknown cause is."""
    try:
        yield
    except (StrandlineError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        raise described(where, attempted, error, refused) from None


def described(where: str, attempted: str, error: BaseException, refused: type[StrandlineError]) -> StrandlineError:
    """An error of ours in place of that of a library."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        text = f"{_ERRNOS.get(error.errno, '')} os error {error.errno}"
    for one in _CAUSES:
        if re.search(one.pattern, text):
            return one.error(f"{where}: could not {attempted}: {one.cause}{_code(text)}; {one.advice}")
    return refused(f"{where}: could not {attempted}: {_unknown(error)}{_code(text)}")


def _unknown(error: BaseException) -> str:
    """A cause that is not recognized. deltalake's first line says what is wrong with a log; others may have secrets there."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    name = type(error).__name__
    if not name.startswith(("Delta", "SchemaMismatch", "TableNotFound")):
        return _in_words(name)
    return _NOT_SHOWN.sub("", str(error)).strip().partition("\n")[0][:_SHOWN_CHARACTERS] or _in_words(name)


def _in_words(name: str) -> str:
    """The name of an exception as words: PermissionDeniedError, for one, as `permission denied`."""
    return (
        " ".join(re.findall("[A-Z]+[a-z]*", name.removesuffix("Error").removesuffix("Exception"))).lower()
        or "it failed"
    )


def _code(text: str) -> str:
    found = _CODE.search(text)
    return f" ({found[1]})" if found else ""

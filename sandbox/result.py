"""What one execution gave back, as a typed value, and the words a model is told about it."""

from __future__ import annotations

import re
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from sandbox.limits import Limits

NETWORK_SIGNS = (
    "Address family not supported by protocol",
    "Temporary failure in name resolution",
    "Could not resolve host",
)


class ExecutionStatus(StrEnum):
    """How a cell ended."""

    OK = "ok"
    ERROR = "error"  # the code raised; state kept
    TIMEOUT = "timeout"  # interrupted at its deadline; state kept
    KILLED = "killed"  # did not yield to the interrupt; kernel replaced, state lost
    DIED = "died"  # the kernel process ended by itself; replaced, state lost
    REFUSED = "refused"  # the code was not run (too large, no time left)
    UNAVAILABLE = "unavailable"  # our fault: no kernel could be had


class ExecutionResult(BaseModel):
    """Outcome of one cell.

    `stdout` and `stderr` are bounded text (head and tail kept), free of terminal codes and lone
    surrogates. `duration_s` is what the call took and `timeout_s` what it was given, in seconds.
    `error` names the exception that ended the cell. `output_bytes` counts the output accepted,
    `truncated` says that some of the output is not in the texts. `state_lost` says, once, that the
    variables of earlier cells are gone, `replayed` that they were and the earlier cells were run
    again. `stopped` says what the kernel used too much of when it was killed for that.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    status: ExecutionStatus
    stdout: str = ""
    stderr: str = ""
    duration_s: float = 0.0
    truncated: bool = False
    state_lost: bool = False
    error: str = ""
    timeout_s: float = 0.0
    output_bytes: int = 0
    stopped: str = ""
    replayed: bool = False


def refusal(code: str, timeout_s: float, limits: Limits) -> ExecutionResult | None:
    """The result for code that must not be run at all, or None."""
    if not timeout_s > 0:
        reason = "no time left"
    elif (size := len(code.encode("utf-8", "surrogatepass"))) > limits.code_bytes:
        reason = f"{_sized(size)} of code; at most {_sized(limits.code_bytes)} are run"
    elif any("\ud800" <= character <= "\udfff" for character in code):
        reason = "the code holds characters that are not valid UTF-8"
    else:
        return None
    return ExecutionResult(
        status=ExecutionStatus.REFUSED, stderr=reason, timeout_s=max(0.0, timeout_s)
    )


def head_and_tail(text: str, limit: int) -> str:
    """`text`, or its first and last part around a line that names the cut.

    At most `limit` bytes of UTF-8 (but never less than that line), always valid; applying it twice
    changes nothing.
    """
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    notice = f"\n[... {_sized(len(data) - limit)} not shown ...]\n"
    kept = max(0, limit - len(notice)) // 2
    # Only the cut edges can hold a broken character.
    head = data[:kept].decode(errors="ignore")
    tail = data[len(data) - kept :].decode(errors="ignore")
    return head + notice + tail


def shares(stdout: str, stderr: str, limit: int) -> tuple[str, str]:
    """Both texts cut to `limit` bytes in all; at most a quarter of them is `stderr`."""
    stderr = head_and_tail(stderr, limit // 4)
    return head_and_tail(stdout, limit - len(stderr.encode())), stderr


def for_model(result: ExecutionResult, limits: Limits) -> str:
    """The text a model is told: what its code printed, the error, and what became of its state.

    `limits` are those of the kernel that ran the code.
    """
    if result.status is ExecutionStatus.UNAVAILABLE:
        return "[tool temporarily unavailable; continue by reasoning.]"
    if result.status is ExecutionStatus.REFUSED:
        return f"[not run: {head_and_tail(result.stderr, 200)}]"
    texts = shares(result.stdout, result.stderr, limits.output_bytes)
    lines = [text.rstrip("\n") for text in texts if text.strip("\n")] + _notices(result, limits)
    return "\n".join(lines) or "[no output]"


_FAILED = re.compile(
    r"^(?:[\w.]*\w(?:Error|Exception|Interrupt|Iteration|Exit)(?::.*)?"
    r"|\[(?:timeout after|kernel stopped|kernel died|not run:|tool temporarily) .*\])$",
    re.MULTILINE,
)


def tells_failure(text: str) -> bool:
    """Whether `text` holds what `for_model` says of a call that failed; printed text may say so too."""
    return _FAILED.search(text) is not None


def _notices(result: ExecutionResult, limits: Limits) -> list[str]:
    after = f"{round(result.timeout_s or result.duration_s, 1):g} s"
    rerun = "all variables lost. Re-run imports and definitions.]"
    notices = []
    if result.output_bytes >= limits.accepted_bytes:
        accepted, shown = _sized(limits.accepted_bytes), _sized(limits.output_bytes // 2)
        notices.append(f"[output cut at {accepted}; first and last {shown} shown.]")
    if result.status is ExecutionStatus.TIMEOUT:
        advice = "variables kept. Use a faster method or a smaller bound.]"
        notices.append(f"[timeout after {after}; interrupted; {advice}")
    elif result.status is ExecutionStatus.KILLED and result.stopped:
        used = f"{round(result.duration_s, 1):g} s ({result.stopped})"
        notices.append(f"[kernel stopped after {used} and was restarted; {rerun}")
    elif result.status is ExecutionStatus.KILLED:
        notices.append(f"[kernel stopped after {after} and was restarted; {rerun}")
    elif result.status is ExecutionStatus.DIED:
        notices.append(f"[kernel died and was restarted; {rerun}")
    if result.state_lost and result.status not in (ExecutionStatus.KILLED, ExecutionStatus.DIED):
        notices.append("[the kernel was restarted before this cell; earlier variables were lost.]")
    if result.replayed:
        notices.append("[the kernel was restarted before this cell; earlier cells were run again.]")
    if result.error.endswith("MemoryError"):
        notices.append(f"[MemoryError: {limits.memory_bytes / 2**30:g} GiB limit; variables kept.]")
    if result.error == "StdinNotImplementedError":
        notices.append("[input() is unavailable; assign the value.]")
    if any(sign in text for sign in NETWORK_SIGNS for text in (result.stderr, result.stdout)):
        notices.append("[no network in this sandbox]")
    return notices


def _sized(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"

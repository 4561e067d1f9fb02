"""The password of a session, out of the Secret that an object names; or why there can be no session.

A session with a password is never tried without it, nor with an empty one. Who needs one is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.intent import SecretRef
from agent.model import Problem, Secret
from bgp.model import PASSWORD_MAX_BYTES, Held, Password

PENDING: Final = Held("secretPending")
"""Nothing is known of the Secret yet: it has just been named."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Nothing set: no password is asked for."""

    password: Password | None = None
    held: Held | None = None
    """Set: one is asked for, and there is none."""
    problems: tuple[Problem, ...] = ()


def look_up(ref: SecretRef | None, secrets: Mapping[str, Secret], *, subject: str, field: str) -> Lookup:
    """`subject` is the object that names the Secret, in its field `field` (`mesh.passwordSecretRef`)."""
    if ref is None:
        return Lookup()
    secret = secrets.get(ref.name)
    if secret is None:
        return Lookup(held=PENDING)
    if not secret.found:
        why = f" ({secret.why})" if secret.why else ""
        missing = Problem(
            "secretMissing",
            subject,
            f"{field} names Secret {ref.name}, which cannot be read{why}: the session stays down",
            f"Create Secret {ref.name} with key {ref.key} in the agent's namespace, and let the agent read it.",
        )
        return Lookup(held=Held(missing.reason), problems=(missing,))
    password = dict(secret.values).get(ref.key)
    problem = _unusable(ref, password, subject, field)
    if problem is not None:
        return Lookup(held=Held(problem.reason), problems=(problem,))
    return Lookup(password)


def _unusable(ref: SecretRef, password: Password | None, subject: str, field: str) -> Problem | None:
    if password is None or not password.reveal():
        what, more = ("has no key", "") if password is None else ("has nothing under key", " that is text")
        return Problem(
            "secretKeyMissing",
            subject,
            f"Secret {ref.name} {what} {ref.key}{more}, which {field} names: the session stays down",
            f"Add key {ref.key} to Secret {ref.name}, or correct {field}.key.",
        )
    length = len(password.reveal().encode())
    if length <= PASSWORD_MAX_BYTES:
        return None
    return Problem(
        "passwordTooLong",
        subject,
        f"Secret {ref.name} has {length} bytes under key {ref.key}, which {field} names, and TCP MD5 takes at most "
        f"{PASSWORD_MAX_BYTES}: the session stays down",
        f"Shorten what stands under key {ref.key} of Secret {ref.name}, on the other side too, or correct {field}.key.",
    )

"""What the agent relies on of a Kubernetes API server: cases that the embedded and the real one both pass.

A case takes a `Scratch`: a client, a name of its own and paths under which it may write; it leaves nothing behind and
counts on nothing else being there or not. It refuses to look at how a server is made: requests and answers only.
"""

from __future__ import annotations

from tests.lab import api_reads, api_writes
from tests.lab.api_scratch import CASES, Case, Scratch

__all__ = ["CASES", "Case", "Scratch", "api_reads", "api_writes"]

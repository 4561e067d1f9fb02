"""structlog set up once: JSON lines in a pod, coloured lines on a terminal, on standard error.

Rooms log through `structlog.get_logger()`; nothing here decides what is worth a line.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

from agent.loading import absent
from agent.settings import LogFormat

with absent("rich"):  # structlog 26 loads it for tracebacks in colour: 60 ms of every start
    import structlog
    from structlog.typing import Processor

log: Final = structlog.get_logger()


def set_up_logging(*, log_format: LogFormat, log_level: str) -> None:
    """Send everything, libraries' own warnings included, to standard error in one form."""
    level = logging.getLevelNamesMapping()[log_level.upper()]
    as_json = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not sys.stderr.isatty())
    renderer: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))

"""structlog set up once: JSON lines in a pod, coloured lines on a terminal, on standard error.

Rooms log through `structlog.get_logger()`; nothing here decides what is worth a line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.loading import absent
from agent.settings import LogFormat

with absent("rich"):  # structlog 26 loads it for tracebacks in colour: 60 ms of every start
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

log: Final = structlog.get_logger()


def set_up_logging(
    *, log_format: LogFormat, log_level: str, hear: Callable[[Mapping[str, Any]], None] | None = None
) -> None:
    """Send everything, libraries' own warnings included, to standard error in one form.

    `hear` is handed each line of ours from level info on, with its time, whatever `log_level` is.
    """
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
        processors=[*shared, *([] if hear is None else [_heard_by(hear), _at_least(level)]), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level if hear is None else min(level, logging.INFO)),
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


def _heard_by(hear: Callable[[Mapping[str, Any]], None]) -> Processor:
    def processor(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        hear(line)
        return line

    return processor


def _at_least(level: int) -> Processor:
    numbers = logging.getLevelNamesMapping()

    def processor(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        if numbers[line["level"].upper()] < level:
            raise structlog.DropEvent
        return line

    return processor

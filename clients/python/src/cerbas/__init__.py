"""Client and worker helper for the cerbas daemon.

    import cerbas

    with cerbas.Client("redis://127.0.0.1:6379/1", source="web") as client:
        print(client.call("sum", a=1, b=2))

:class:`Client` calls functions. :func:`function` and :func:`serve` make functions of the kind ``worker``.
:func:`start`, :func:`request` and :func:`request_without_response` are the interface of the first client.
"""

from .client import Client
from .errors import (
    BadCall,
    CallCycle,
    CallTimeout,
    Cancelled,
    CerbasError,
    ConnectionFailed,
    Duplicate,
    Expired,
    FunctionError,
    InvalidArguments,
    Lost,
    NoAnswer,
    NoSuchNode,
    NoSuchQueue,
    NotAuthorized,
    Overload,
    Rejected,
    UndefinedFunction,
)
from .legacy import request, request_without_response, start
from .pending import PendingAnswer
from .worker import Call, DoNotRetry, function, serve

__version__ = "0.1.0"

__all__ = [
    "BadCall",
    "Call",
    "CallCycle",
    "CallTimeout",
    "Cancelled",
    "CerbasError",
    "Client",
    "ConnectionFailed",
    "DoNotRetry",
    "Duplicate",
    "Expired",
    "FunctionError",
    "InvalidArguments",
    "Lost",
    "NoAnswer",
    "NoSuchNode",
    "NoSuchQueue",
    "NotAuthorized",
    "Overload",
    "PendingAnswer",
    "Rejected",
    "UndefinedFunction",
    "function",
    "request",
    "request_without_response",
    "serve",
    "start",
]

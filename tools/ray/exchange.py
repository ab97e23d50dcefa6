"""What goes between the front and the servers behind it."""

import json
from dataclasses import dataclass

# Of one connection, not of the message; or said by whoever sends it on, as Ray says an id of the request.
OF_THE_CONNECTION = {
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "host",
    "content-length", "accept-encoding", "date", "server", "x-request-id"}
EVENT_STREAM = "text/event-stream"


@dataclass
class Request:
    method: str
    target: str  # path and query as the client has written them: an id's slash may be %2F
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Head:
    """Of an answer; its body follows in pieces, each of whole events, or whole."""

    status: int
    headers: list[tuple[str, str]]

    def is_stream(self) -> bool:
        kind = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        return kind.startswith(EVENT_STREAM)


def passed_on(headers) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in OF_THE_CONNECTION]


def error(message: str, kind: str, code: str) -> bytes:
    """As `quarry serve` says them."""
    fields = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": fields}).encode()

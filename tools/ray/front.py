"""The one address before all servers."""

import logging

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response, StreamingResponse

from exchange import Head, Request, error, passed_on

log = logging.getLogger("ray.serve")

# Predictions are not among them: each lives in one server.
PATHS = {
    "/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize", "/detokenize",
    "/apply-template", "/health"}
MODEL = "/v1/models/"
# Of a body; what `quarry serve` takes.
LIMIT = 8 << 20
# Servers that may be lost over one request. One that ends every server must not end them all.
ATTEMPTS = 3
# With which a streamed chat begins before there is a token: it tells nothing that could not be told again.
OPENING = b'"delta":{"role":"assistant","content":""}'
AGAIN = "before it had said anything; another one is asked"
END = b"data: [DONE]\n\n"


class Front:
    def __init__(self, servers: DeploymentHandle):
        self.servers = servers.options(method_name="forward", stream=True)

    async def __call__(self, request: HTTPRequest) -> Response:
        path = request.scope["path"]
        of_model = request.method == "GET" and path.startswith(MODEL)
        if path not in PATHS and not of_model:
            return refusal(404, "there is nothing here", "invalid_request_error", "not_found")
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LIMIT:
                return refusal(
                    413, f"the body is larger than {LIMIT} bytes", "invalid_request_error",
                    "request_too_large")
        target = request.scope["raw_path"].decode("ascii")
        if request.scope["query_string"]:
            target += "?" + request.scope["query_string"].decode("ascii")
        parts = self.answer(
            Request(request.method, target, passed_on(request.headers.items()), bytes(body)))
        try:
            head = await anext(parts)
        except BackPressureError:
            return refusal(
                429, "all servers are busy, and as many requests wait as may", "rate_limit_error",
                "queue_full", {"Retry-After": "2"})
        except DeploymentUnavailableError:
            return refusal(
                503, "there is no server", "unavailable_error", "unavailable", {"Retry-After": "10"})
        response = StreamingResponse(parts, head.status)
        for name, value in head.headers:
            response.headers.append(name, value)
        return response

    async def answer(self, request: Request):
        """The head of an answer and the pieces of its body, from another server if one is lost before
        it has said anything. An answer that has begun cannot be begun again: another server would
        write the same text, but under another id; so it ends with an error that says so."""
        told = spoken = False
        for _ in range(ATTEMPTS):
            held = b""
            parts = self.servers.remote(request)
            try:
                head = await anext(parts)
                async for piece in parts:
                    if told and not spoken and not head.is_stream():
                        # The client has heard a sign of life of a stream that now is none.
                        yield as_event(piece)
                        return
                    if head.is_stream() and not spoken and is_opening(piece):
                        held += piece
                        continue
                    if not told:
                        yield head
                        told = True
                    spoken = spoken or not piece.startswith(b":")
                    yield (held + piece) if spoken else piece
                    held = b"" if spoken else held
                if not told:
                    yield head
                if held:
                    yield held
                return
            except (BackPressureError, DeploymentUnavailableError):
                if not told:
                    raise
                break
            except RayError:
                if spoken and (not head.is_stream() or piece.endswith(END)):
                    return  # only the end of the connection is missing
                log.warning("a server was lost %s", "in mid-answer" if spoken else AGAIN)
                if spoken:
                    break
            finally:
                # Also when the client has left.
                parts.cancel()
        lost = error("the server that answered was lost", "server_error", "server_lost")
        if not told:
            yield Head(502, [("content-type", "application/json")])
            yield lost
        else:
            yield as_event(lost)


def is_opening(piece: bytes) -> bool:
    return all(OPENING in event for event in piece.split(b"\n\n") if event)


def as_event(body: bytes) -> bytes:
    return b"data: " + body.replace(b"\n", b" ") + b"\n\n"


def refusal(
    status: int, message: str, kind: str, code: str, headers: dict[str, str] | None = None
) -> Response:
    return Response(error(message, kind, code), status, headers, "application/json")

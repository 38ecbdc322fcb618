"""The HTTP side of the service: OpenAI's API over a text engine. Knows nothing of Ray.

    POST /v1/chat/completions, /v1/completions      an answer, whole or as a stream of server-sent events
    GET  /v1/models, /v1/models/{id}                the one model
    GET  /infer?sentence=…[&max_tokens=]            a JSON list with one text: the shape that older clients expect
    GET  /healthz, /readyz                          this process answers; the engine can answer
    GET  /openapi.json                              all this for machines

A request is served as a whole or refused: a parameter that is not supported is named in the error, and never silently ignored.
"""

from serving.api.application import build_app

__all__ = ["build_app"]

"""A text app as a first tutorial of Ray Serve has it: one deployment, which answers in capital letters."""

from ray import serve
from starlette.requests import Request


@serve.deployment
class Capitals:
    """The whole application in one class."""

    async def __call__(self, request: Request) -> str:
        return request.query_params.get("text", "nothing was sent").upper()


app = Capitals.bind()

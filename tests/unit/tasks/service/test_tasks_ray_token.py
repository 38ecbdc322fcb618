"""Ray's own token: made once, and the one that Ray is told to ask for."""

from __future__ import annotations

from kubernetes_server import serving

from blocks.parameters import Service
from tasks.service import ray_token, rayservice
from tasks.service.preflight import IMAGES

PATH = "/api/v1/namespaces/mistral/secrets/ray-token"


def test_the_token_is_made_once() -> None:
    with serving() as (server, api):
        ray_token.ensure(api, "mistral")
        made = server.objects[PATH]["stringData"]["auth_token"]
        assert len(made) >= 43, "32 random bytes"
        ray_token.ensure(api, "mistral")
        assert server.objects[PATH]["stringData"]["auth_token"] == made
        ray_token.remove(api, "mistral")
        assert PATH not in server.objects
        ray_token.ensure(api, "mistral")
        assert server.objects[PATH]["stringData"]["auth_token"] != made


def test_ray_asks_for_the_token_of_that_secret() -> None:
    service = rayservice.render(Service(), "cpu", IMAGES, None)[-1]
    assert service["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token", "secretName": ray_token.NAME}

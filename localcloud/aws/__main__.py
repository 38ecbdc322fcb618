"""`python -m localcloud.aws --port 4566`: the AWS side alone, on loopback, in front of a machine that makes nothing.

For tests of Terraform only: clusters, nodes and Redis exist in the API's answers and nowhere else. Prints the environment
that a client needs, then serves until it is interrupted. `python -m localcloud up` starts the real one.
"""

from __future__ import annotations

import argparse
import logging

from localcloud import settings
from localcloud.aws.auth import first_user
from localcloud.aws.fake_machine import FakeMachine
from localcloud.aws.server import Endpoint


def main() -> None:
    """Serve the API until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    first = first_user.create()
    endpoint = Endpoint(FakeMachine(), "127.0.0.1", arguments.port)
    print(f"export AWS_ENDPOINT_URL={endpoint.url} AWS_EC2_METADATA_DISABLED=true")
    print(f"export AWS_REGION={settings.REGION} AWS_DEFAULT_REGION={settings.REGION}")
    print(f"export AWS_ACCESS_KEY_ID={first.access_key_id} AWS_SECRET_ACCESS_KEY={first.secret_access_key}")
    print(f"# role to assume: {first.role_arn}", flush=True)
    try:
        endpoint.serve_forever()
    except KeyboardInterrupt:
        endpoint.stop()


if __name__ == "__main__":
    main()

"""A server that speaks S3, in this process."""

from __future__ import annotations

import os
from unittest import mock

import boto3
from moto.server import ThreadedMotoServer


class S3Server:
    """With a bucket `states`, on a free loopback port. What it holds outlives a stop."""

    def __init__(self) -> None:
        self._port = 0
        self.start()
        url = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
        }
        with mock.patch.dict(os.environ, self.environment):
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket="states")

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        self._port = int(self._server.get_host_and_port()[1])

    def stop(self) -> None:
        """Refuse connections."""
        self._server.stop()

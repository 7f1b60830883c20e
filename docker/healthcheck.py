"""Whether the process in this container lives: exit code 0 when /healthz answers 200, else 1 with the reason.

SSM_STREAM_OPS names another address than 127.0.0.1:9464. Only the standard library, and no proxy in between.
"""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    address = os.environ.get("SSM_STREAM_OPS", "127.0.0.1:9464")
    connection = http.client.HTTPConnection(address, timeout=4)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"{address}/healthz: {error or type(error).__name__}\n")
        return 1
    finally:
        connection.close()
    if status != 200:
        sys.stderr.write(f"{address}/healthz: {status}\n")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m ssm_stream`: the same as `ssm-stream`."""

from ssm_stream.cli.app import main

main()

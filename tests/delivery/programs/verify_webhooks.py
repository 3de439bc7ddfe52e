"""Verifies webhooks with the public package `standardwebhooks`.

Reads JSON Lines from standard input: {"secret": "whsec_...", "headers": {...}, "body": "..."}.
Prints `ok` or `bad: REASON` for each line.
"""

import json
import sys

from standardwebhooks import Webhook


def verify(line):
    webhook = json.loads(line)
    try:
        # The body is verified as bytes, as a receiver gets it. It need not be JSON.
        body = webhook["body"].encode()
        Webhook(webhook["secret"]).verify(body, webhook["headers"], json_parse=False)
    except Exception as error:  # The package raises other errors than its own for malformed headers.
        reason = " ".join(str(error).split())
        return f"bad: {reason or type(error).__name__}"
    return "ok"


# The test writes all lines before it reads an answer.
for line in sys.stdin.buffer.readlines():
    print(verify(line))

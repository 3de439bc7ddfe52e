"""Receives mail with the public package `aiosmtpd`, on a port of 127.0.0.1, until standard input closes.

Prints JSON Lines: first {"port": N}, then one line for each accepted mail:
{"from": "...", "to": ["..."], "raw": "...", "tls": true, "user": null}.

The start of a recipient's local part selects what the server does:
  refuse    550 to RCPT
  busyonce  451 after DATA for the first mail with a Message-ID; later mails with it are accepted
  busy      451 to RCPT
  hang      no answer after DATA
"""

import argparse
import asyncio
import email.parser
import json
import logging
import os
import ssl
import sys
import threading
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

# A client that waits for an answer gives up long before this.
IDLE_SECONDS_MAX = 3600


def local_part(address):
    return address.rpartition("@")[0].lower()


class Handler:
    def __init__(self, implicit_tls, login):
        self.implicit_tls = implicit_tls
        self.login = login
        self.seen = set()

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if self.login is None:
            # The package offers AUTH even if nobody can log in.
            responses = [line for line in responses if not line.startswith("250-AUTH")]
        return responses

    async def handle_RCPT(self, server, session, envelope, address, options):
        local = local_part(address)
        if local.startswith("refuse"):
            return "550 5.1.1 no such mailbox"
        if local.startswith("busy") and not local.startswith("busyonce"):
            return "451 4.3.0 the mailbox is busy; try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        names = [local_part(address) for address in envelope.rcpt_tos]
        if any(name.startswith("hang") for name in names):
            await asyncio.sleep(IDLE_SECONDS_MAX)
        message_id = email.parser.BytesHeaderParser().parsebytes(envelope.content)["Message-ID"]
        if any(name.startswith("busyonce") for name in names) and message_id not in self.seen:
            self.seen.add(message_id)
            return "451 4.3.0 the mailbox is busy; try again later"
        show(
            {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "raw": envelope.content.decode(errors="replace"),
                "tls": self.implicit_tls or session.ssl is not None,
                "user": session.auth_data.login.decode() if session.authenticated else None,
            }
        )
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, data):
        given = (data.login, data.password) if isinstance(data, LoginPassword) else None
        # `handled=False` lets the package answer 535.
        return AuthResult(success=given == self.login, handled=False, auth_data=data)


def show(value):
    print(json.dumps(value), flush=True)


def end_with_input():
    sys.stdin.buffer.read()
    os._exit(0)


async def serve(options):
    context = None
    if options.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
    login = None
    if options.login is not None:
        user, _, password = options.login.partition(":")
        login = (user.encode(), password.encode())
    handler = Handler(options.tls == "tls", login)
    starttls = options.tls == "starttls"

    def connection():
        return SMTP(
            handler,
            hostname="localhost",
            enable_SMTPUTF8=True,
            timeout=IDLE_SECONDS_MAX,
            tls_context=context if starttls else None,
            require_starttls=starttls,
            # The package knows only of encryption that STARTTLS began.
            auth_require_tls=starttls,
            auth_required=login is not None,
            authenticator=handler.authenticate,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(
        connection, "127.0.0.1", options.port, ssl=context if options.tls == "tls" else None
    )
    show({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description="Receives mail for a test until standard input closes.")
    parser.add_argument("--tls", choices=["none", "starttls", "tls"], default="none")
    parser.add_argument("--cert", help="a PEM file; needed for TLS")
    parser.add_argument("--key", help="a PEM file; needed for TLS")
    parser.add_argument("--login", metavar="USER:PASSWORD", help="refuse mail without this login")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    # The package warns of AUTH without STARTTLS.
    warnings.simplefilter("ignore")
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    threading.Thread(target=end_with_input, daemon=True).start()
    asyncio.run(serve(options))


main()

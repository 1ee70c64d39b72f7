"""An SMTP server (aiosmtpd) that keeps what it receives.

    smtp_server.py FOLDER MODE [CERTIFICATE KEY]

MODE: `plain`; `starttls`, required, with the login `propusk` / `letmein`; `implicit`; `refusing`:
every recipient gets 550; `busy`: every first recipient of a connection's first mail gets 451, once
per address. Prints its port, then writes each mail to FOLDER/NUMBER.eml and what the connection was
like to FOLDER/NUMBER.json.
"""

import asyncio
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

folder, mode = pathlib.Path(sys.argv[1]), sys.argv[2]


class Handler:
    count = 0
    seen = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        if mode == "refusing":
            return f"550 5.1.1 <{address}>: there is no such mailbox"
        if mode == "busy" and address not in self.seen:
            self.seen.add(address)
            return f"451 4.7.1 <{address}>: greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        (folder / f"{self.count}.eml").write_bytes(envelope.content)
        facts = {
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            # `session.ssl` is that of STARTTLS only.
            "tls": server.transport.get_extra_info("sslcontext") is not None,
            "login": getattr(session, "login", None),
        }
        (folder / f"{self.count}.json").write_text(json.dumps(facts))
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (b"propusk", b"letmein")
    if right:
        session.login = data.login.decode()
    # `handled=False`: the server itself answers a failure, with 535.
    return AuthResult(success=right, handled=False)


async def main():
    context = None
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
    handler = Handler()

    def protocol():
        if mode == "starttls":
            return SMTP(
                handler,
                tls_context=context,
                require_starttls=True,
                authenticator=authenticate,
                auth_required=True,
            )
        return SMTP(handler)

    loop = asyncio.get_running_loop()
    wrapped = context if mode == "implicit" else None
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=wrapped)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

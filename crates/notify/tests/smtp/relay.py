"""A mail relay for tests: Debian's aiosmtpd, which writes down every mail it takes.

Argument: a JSON object with address, port, dir, and optionally cert and key (TLS), implicit (TLS from the first byte),
user and password, and mechanism (the only way to log in that is offered).
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

wanted = json.loads(sys.argv[1])


class Handler:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later"):
            return "451 4.2.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        if any(address.startswith("full") for address in envelope.rcpt_tos):
            return "552 5.2.2 mailbox full"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        Handler.count += 1
        record = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or bool(wanted.get("implicit")),
            "login": (session.auth_data.login.decode() if session.auth_data else None),
            "headers": mail.keys(),
            "subject": mail["subject"],
            "id": mail["message-id"],
            "date": mail["date"],
            "body": mail.get_content(),
            "raw": envelope.content.decode("ascii"),
        }
        path = os.path.join(wanted["dir"], f"mail-{Handler.count}.json")
        with open(path + ".part", "w") as file:
            json.dump(record, file)
        os.rename(path + ".part", path)
        return "250 2.0.0 Ok: queued as M%d" % Handler.count


def authenticate(server, session, envelope, mechanism, data):
    good = data.login.decode() == wanted["user"] and data.password.decode() == wanted["password"]
    return AuthResult(success=good, handled=False, auth_data=data)


async def main():
    context = None
    if "cert" in wanted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(wanted["cert"], wanted["key"])
    implicit = bool(wanted.get("implicit"))
    excluded = [m for m in ("PLAIN", "LOGIN") if wanted.get("mechanism", m) != m]

    def factory():
        return SMTP(
            Handler(),
            hostname="relay.test",
            tls_context=None if implicit else context,
            authenticator=authenticate if "user" in wanted else None,
            auth_required="user" in wanted,
            auth_require_tls=context is not None and not implicit,
            auth_exclude_mechanism=excluded,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        factory, wanted["address"], wanted["port"], ssl=context if implicit else None
    )
    await server.serve_forever()


asyncio.run(main())

"""A mail relay for trials: Debian's aiosmtpd, which tells of every mail on standard output, one JSON object per line, before it answers.

Arguments: address, port, seed, and `fair` or `moody`. A moody relay refuses some mails for the moment, is slow with some, and hangs up on
some without a word after it has taken them. SIGUSR1 makes it fair.
"""

import asyncio
import email
import email.policy
import json
import random
import signal
import sys
import time

from aiosmtpd.smtp import SMTP

address, port, seed, temper = sys.argv[1:5]
fair = temper == "fair"
moods = random.Random(int(seed))
# How often a mail was not taken, by id. Each failure makes the next wait three times as long, so two are enough.
failed = {}


def now():
    return int(time.time() * 1000)


class Relay(SMTP):
    def connection_made(self, transport):
        self.opened = now()
        super().connection_made(transport)


class Handler:
    async def handle_DATA(self, server, session, envelope):
        mood = 100 if fair else moods.randrange(100)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        if mood < 10:
            times = failed[mail["message-id"]] = failed.get(mail["message-id"], 0) + 1
            if times > 2:
                mood = 100
        answer = "refused" if mood < 5 else "unknown" if mood < 10 else "taken"
        record = {
            "opened": server.opened,
            "at": now(),
            "peer": session.peer[0],
            "id": mail["message-id"],
            "subject": mail["subject"],
            "answer": answer,
        }
        print(json.dumps(record), flush=True)
        if answer == "refused":
            return "451 4.2.0 try again later"
        if answer == "unknown":
            server.transport.abort()
        elif mood < 15:
            await asyncio.sleep(2)
        return "250 2.0.0 Ok"


def be_fair():
    global fair
    fair = True


async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, be_fair)
    server = await loop.create_server(
        lambda: Relay(Handler(), hostname="relay.trial"), address, int(port)
    )
    await server.serve_forever()


asyncio.run(main())

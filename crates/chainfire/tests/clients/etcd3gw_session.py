"""A session of the PyPI client `etcd3gw` (JSON over HTTP/1.1) with the server at HOST PORT; the first step that goes wrong ends it.

Nothing in it is particular to Chainfire: it has to pass against etcd as well, which is how we know that it asks for the right things.
"""

import sys
import threading

import etcd3gw
from etcd3gw import exceptions
from etcd3gw.utils import _encode

LIMIT = 20  # seconds; longest wait for something that has to happen


def step(name):
    print(name, flush=True)


def expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"expected {wanted!r}, found {found!r}")


def keys_and_values(client):
    step("version and prefix")
    expect(client.api_path, "/v3/")
    step("put, get, create, replace, delete")
    client.put("kv/a", "1")
    client.put("kv/b", b"\x00\xff")
    expect(client.get("kv/a"), [b"1"])
    expect(client.get("kv/none"), [])
    (value, meta), = client.get("kv/a", metadata=True)
    expect((value, meta["key"], meta["version"]), (b"1", b"kv/a", "1"))
    expect(meta["create_revision"], meta["mod_revision"])
    expect(client.create("kv/a", "2"), False)
    expect(client.create("kv/c", "3"), True)
    expect(client.replace("kv/a", "1", "4"), True)
    expect(client.replace("kv/a", "1", "5"), False)

    step("ranges")
    expect([pair[0] for pair in client.get_prefix("kv/")], [b"4", b"\x00\xff", b"3"])
    falling = client.get_prefix("kv/", sort_order="descend", sort_target="key")
    expect([pair[1]["key"] for pair in falling], [b"kv/c", b"kv/b", b"kv/a"])
    expect(client.get("kv/a", range_end="kv/c", limit=1), [b"4"])
    expect(len(client.get_all()), 3)
    expect(client.delete("kv/b"), True)
    expect(client.delete("kv/b"), False)
    expect(client.delete_prefix("kv/"), True)
    expect(client.get_all(), [])


def transactions(client):
    step("transactions")
    reply = client.transaction(
        {
            "compare": [{"key": _encode("txn/a"), "result": "EQUAL", "target": "VERSION", "version": "0"}],
            "success": [
                {"request_put": {"key": _encode("txn/a"), "value": _encode("1")}},
                {"requestRange": {"key": _encode("txn/a")}},
            ],
            "failure": [],
        }
    )
    expect(reply["succeeded"], True)
    expect(reply["responses"][1]["response_range"]["kvs"][0]["value"], _encode("1"))
    reply = client.transaction(
        {
            "compare": [{"key": _encode("txn/a"), "result": "GREATER", "target": "VALUE", "value": _encode("5")}],
            "failure": [{"request_delete_range": {"key": _encode("txn/a"), "prev_kv": True}}],
        }
    )
    expect("succeeded" in reply, False)
    expect(reply["responses"][0]["response_delete_range"]["deleted"], "1")


def watches(client):
    step("watch a prefix")
    events, cancel = client.watch_prefix("watch/")
    client.put("watch/a", "1")
    client.put("watch/b", "2")
    client.delete("watch/a")
    seen = [next(events) for _ in range(3)]
    expect([event["kv"]["key"] for event in seen], [b"watch/a", b"watch/b", b"watch/a"])
    expect([event.get("type", "PUT") for event in seen], ["PUT", "PUT", "DELETE"])
    expect([event["kv"].get("value") for event in seen], [b"1", b"2", None])
    cancel()

    step("watch from a past revision")
    events, cancel = client.watch_prefix("watch/", start_revision=int(seen[0]["kv"]["mod_revision"]), filters=["NODELETE"])
    expect([next(events)["kv"]["value"] for _ in range(2)], [b"1", b"2"])
    cancel()

    step("watch once")
    threading.Timer(0.1, lambda: client.put("watch/once", "x")).start()
    expect(client.watch_once("watch/once", timeout=LIMIT)["kv"]["value"], b"x")
    try:
        client.watch_once("watch/never", timeout=0.1)
        raise AssertionError("a watch of an untouched key ended")
    except exceptions.WatchTimedOut:
        pass


def leases(client):
    step("leases")
    lease = client.lease(ttl=60)
    client.put("lease/a", "1", lease=lease)
    expect(lease.keys(), [b"lease/a"])
    expect(0 < lease.ttl() <= 60, True)
    expect(lease.refresh(), 60)
    expect(lease.revoke(), True)
    expect(client.get("lease/a"), [])
    expect(lease.refresh(), -1)
    expect(lease.ttl(), -1)

    step("a lease that nobody keeps alive ends")
    events, cancel = client.watch("lease/short")
    client.put("lease/short", "1", lease=client.lease(ttl=1))
    expect([next(events).get("type", "PUT") for _ in range(2)], ["PUT", "DELETE"])
    cancel()


def locks(client):
    step("locks")
    lock, rival = client.lock(id="job", ttl=60), client.lock(id="job", ttl=60)
    expect(lock.acquire(), True)
    expect(rival.acquire(), False)
    expect((lock.is_acquired(), rival.is_acquired()), (True, False))
    expect(lock.refresh(), 60)
    expect(rival.release(), False)
    expect(lock.release(), True)
    expect(rival.acquire(), True)
    expect(rival.release(), True)
    with client.lock(id="other") as other:
        expect(other.is_acquired(), True)
    expect(other.is_acquired(), False)


def cluster(client):
    step("members and status")
    members = client.members()
    expect(len(members), 1)
    status = client.status()
    expect(status["leader"], members[0]["ID"])
    expect(int(status["dbSize"]) > 0 and int(status["raftTerm"]) > 0, True)

    step("errors")
    try:
        client.put("", "1")
        raise AssertionError("a put without a key went through")
    except exceptions.Etcd3Exception as error:
        expect("etcdserver: key is not provided" in error.detail_text, True)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    client = etcd3gw.client(host=host, port=port, timeout=LIMIT)
    for part in (keys_and_values, transactions, watches, leases, locks, cluster):
        part(client)
    step("done")
    # Its watch threads may still sit in a read of a connection that is closed.
    sys.stdout.flush()


main()

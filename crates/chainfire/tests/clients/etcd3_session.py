"""A session of the PyPI client `etcd3` (gRPC) with the server at HOST PORT; the first step that goes wrong ends it.

Nothing in it is particular to Chainfire: it has to pass against etcd as well, which is how we know that it asks for the right things.
"""

import io
import sys
import threading

import etcd3
from etcd3 import exceptions

LIMIT = 20  # seconds; longest wait for something that has to happen


def step(name):
    print(name, flush=True)


def expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"expected {wanted!r}, found {found!r}")


def values(pairs):
    return [value for value, _ in pairs]


def keys_and_values(client):
    step("put, get, replace, delete")
    client.put("kv/a", "1")
    client.put("kv/b", b"\x00\xff")
    value, meta = client.get("kv/a")
    expect((value, meta.key, meta.version, meta.lease_id), (b"1", b"kv/a", 1, 0))
    expect(meta.create_revision, meta.mod_revision)
    expect(client.get("kv/b")[0], b"\x00\xff")
    expect(client.get("kv/none"), (None, None))
    expect(client.put("kv/a", "2", prev_kv=True).prev_kv.value, b"1")
    expect(client.get("kv/a", serializable=True)[1].version, 2)
    expect(client.replace("kv/a", "2", "3"), True)
    expect(client.replace("kv/a", "2", "4"), False)
    expect(client.put_if_not_exists("kv/a", "5"), False)
    expect(client.put_if_not_exists("kv/c", "6"), True)

    step("ranges")
    expect(values(client.get_prefix("kv/")), [b"3", b"\x00\xff", b"6"])
    expect(values(client.get_prefix("kv/", sort_order="descend", sort_target="key")), [b"6", b"\x00\xff", b"3"])
    expect(values(client.get_range("kv/a", "kv/c")), [b"3", b"\x00\xff"])
    expect(values(client.get_all())[:1], [b"3"])
    expect(client.get_prefix_response("kv/", keys_only=True).kvs[0].value, b"")
    expect(client.delete("kv/b"), True)
    expect(client.delete("kv/b"), False)
    expect(client.delete_prefix("kv/").deleted, 2)


def transactions(client):
    step("transactions")
    at = client.transactions
    done, replies = client.transaction(
        compare=[at.version("txn/a") == 0, at.value("txn/a") != "x"],
        success=[at.put("txn/a", "1")],
        failure=[],
    )
    # A comparison of the value of a key that is not there is never true.
    expect((done, replies), (False, []))
    done, replies = client.transaction(
        compare=[at.version("txn/a") == 0],
        success=[at.put("txn/a", "1"), at.put("txn/b", "2"), at.get("txn/a")],
        failure=[at.get("txn/a")],
    )
    expect(done, True)
    expect(values(replies[2]), [b"1"])
    revision = client.get("txn/a")[1].mod_revision
    expect(client.get("txn/b")[1].mod_revision, revision)
    done, replies = client.transaction(
        compare=[at.mod("txn/a") > revision],
        success=[],
        failure=[
            at.txn(compare=[at.create("txn/b") == revision], success=[at.delete("txn/b")], failure=[]),
            at.get("txn/b"),
        ],
    )
    expect(done, False)
    expect(replies[1], [])
    expect(client.get("txn/b"), (None, None))


def watches(client):
    step("watch a key and a prefix on one stream")
    events, cancel = client.watch("watch/a", prev_kv=True)
    below, cancel_below = client.watch_prefix("watch/")
    client.put("watch/a", "1")
    client.put("watch/b", "2")
    client.delete("watch/a")
    first, second = next(events), next(events)
    expect((type(first), first.value, first.prev_value), (etcd3.events.PutEvent, b"1", b""))
    expect((type(second), second.key, second.prev_value), (etcd3.events.DeleteEvent, b"watch/a", b"1"))
    seen = [next(below) for _ in range(3)]
    expect([event.key for event in seen], [b"watch/a", b"watch/b", b"watch/a"])
    cancel()
    client.put("watch/a", "3")
    expect(next(below).value, b"3")
    expect(list(events), [])
    cancel_below()

    step("watch from a past revision")
    replay, cancel = client.watch_prefix("watch/", start_revision=seen[0].mod_revision)
    expect([next(replay).value for _ in range(4)], [b"1", b"2", b"", b"3"])
    cancel()

    step("watch once")
    threading.Timer(0.1, lambda: client.put("watch/once", "x")).start()
    expect(client.watch_once("watch/once", timeout=LIMIT).value, b"x")
    try:
        client.watch_once("watch/never", timeout=0.1)
        raise AssertionError("a watch of an untouched key ended")
    except exceptions.WatchTimedOut:
        pass

    step("watch a compacted revision")
    revision = client.get("watch/once")[1].mod_revision
    client.compact(revision, physical=True)
    gone, cancel = client.watch("watch/a", start_revision=1)
    try:
        next(gone)
        raise AssertionError("a compacted revision was replayed")
    except exceptions.RevisionCompactedError as error:
        expect(error.compacted_revision, revision)
    cancel()


def leases(client):
    step("leases")
    lease = client.lease(60)
    client.put("lease/a", "1", lease=lease)
    expect(client.get("lease/a")[1].lease_id, lease.id)
    expect(lease.granted_ttl, 60)
    expect(0 < lease.remaining_ttl <= 60, True)
    expect(list(lease.keys), [b"lease/a"])
    expect([reply.TTL for reply in lease.refresh()], [60])
    named = client.lease(30, lease_id=4711)
    expect(named.id, 4711)
    named.revoke()
    lease.revoke()
    expect(client.get("lease/a"), (None, None))
    expect([reply.TTL for reply in lease.refresh()], [0])

    step("a lease that nobody keeps alive ends")
    events, cancel = client.watch("lease/short")
    client.put("lease/short", "1", lease=client.lease(1))
    expect(type(next(events)), etcd3.events.PutEvent)
    expect(type(next(events)), etcd3.events.DeleteEvent)
    cancel()


def locks(client):
    step("locks")
    lock = client.lock("job", ttl=60)
    expect(lock.acquire(timeout=LIMIT), True)
    expect(lock.is_acquired(), True)
    rival = client.lock("job", ttl=60)
    expect(rival.acquire(timeout=0), False)
    expect([reply.TTL for reply in lock.refresh()], [60])
    expect(lock.release(), True)
    expect(rival.acquire(timeout=0), True)
    expect((lock.is_acquired(), rival.is_acquired()), (False, True))
    expect(rival.release(), True)
    with client.lock("other", ttl=60) as other:
        expect(other.is_acquired(), True)
    expect(other.is_acquired(), False)


def cluster(client):
    step("members, status, alarms, snapshot")
    members = list(client.members)
    expect(len(members), 1)
    status = client.status()
    expect(status.leader.id, members[0].id)
    expect(status.db_size > 0 and status.raft_index > 0 and status.raft_term > 0, True)
    expect(list(client.list_alarms()), [])
    client.create_alarm()
    expect([alarm.alarm_type for alarm in client.list_alarms()], [1])
    try:
        client.put("alarm/a", "1")
        raise AssertionError("a put went through while the space is used up")
    except Exception as error:
        expect("mvcc: database space exceeded" in str(error), True)
    client.disarm_alarm()
    expect(list(client.list_alarms()), [])
    client.put("alarm/a", "1")
    client.defragment()
    expect(client.hash() >= 0, True)
    copy = io.BytesIO()
    client.snapshot(copy)
    expect(len(copy.getvalue()) % 512, 32)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    with etcd3.client(host=host, port=port, timeout=LIMIT) as client:
        for part in (keys_and_values, transactions, watches, leases, locks, cluster):
            part(client)
    step("done")


main()

//! Who may do what, case by case, and coverage of ranges against a naive model.

use std::cell::Cell;

use super::*;
use crate::auth::password::DECOY;
use crate::wire::authpb::Permission;
use crate::wire::authpb::permission::Type;
use crate::wire::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    CompactionRequest, Compare, LeaseGrantRequest, LeaseRevokeRequest,
};
use crate::wire::logpb::{LeaderStarted, LeaseExpire};

fn add_user(name: &str) -> Request {
    Request::AuthUserAdd(AuthUserAddRequest {
        name: name.into(),
        hashed_password: DECOY.into(),
        ..Default::default()
    })
}

fn grant_role(user: &str, role: &str) -> Request {
    Request::AuthUserGrantRole(AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    })
}

fn change_password(name: &str) -> Request {
    Request::AuthUserChangePassword(AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password: DECOY.into(),
        ..Default::default()
    })
}

/// A store that is on, with `root`, the superuser `boss`, and `u`, whose roles allow:
/// reading [a, c), k, [k\0, m) and everything from x; writing [a, b) and k.
fn store() -> AuthStore {
    let mut store = AuthStore::default();
    let mut apply = |request: Request| {
        store.apply(&request).unwrap();
    };
    for user in ["root", "boss", "u"] {
        apply(add_user(user));
    }
    apply(grant_role("root", "root"));
    apply(grant_role("boss", "root"));
    for role in ["one", "two"] {
        apply(Request::AuthRoleAdd(AuthRoleAddRequest { name: role.into() }));
        apply(grant_role("u", role));
    }
    for (role, perm_type, key, range_end) in [
        ("one", Type::Readwrite, "a", "b"),
        ("two", Type::Read, "b", "c"),
        ("one", Type::Readwrite, "k", ""),
        ("two", Type::Read, "k\0", "m"),
        ("two", Type::Read, "x", "\0"),
    ] {
        let perm = Permission {
            perm_type: perm_type.into(),
            key: key.into(),
            range_end: range_end.into(),
        };
        let name = role.into();
        apply(Request::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest {
            name,
            perm: Some(perm),
        }));
    }
    apply(Request::AuthEnable(AuthEnableRequest {}));
    store
}

fn identity(store: &AuthStore, user: &str) -> Identity {
    Identity::new(user, store.revision())
}

fn no_lease(_: i64) -> Vec<Bytes> {
    Vec::new()
}

fn read(key: &'static str, range_end: &'static str) -> Access<'static> {
    Access::Read {
        key: key.as_bytes(),
        range_end: range_end.as_bytes(),
    }
}

fn write(key: &'static str, range_end: &'static str) -> Access<'static> {
    Access::Write {
        key: key.as_bytes(),
        range_end: range_end.as_bytes(),
    }
}

const DENIED: Result<()> = Err(Error::PermissionDenied);

#[test]
fn keys_are_allowed_where_the_union_of_the_grants_covers_the_request() {
    let store = store();
    let user = identity(&store, "u");
    let cases = [
        (read("a", ""), Ok(())),
        (read("a1", ""), Ok(())),
        (read("c", ""), DENIED),
        // Across two roles.
        (read("a", "c"), Ok(())),
        (read("a", "c\0"), DENIED),
        (read("a", "d"), DENIED),
        (read("A", "b"), DENIED),
        // A key and the range that begins right after it.
        (read("k", "m"), Ok(())),
        (read("k", "n"), DENIED),
        (read("x", "\0"), Ok(())),
        (read("y", "\0"), Ok(())),
        (read("a", "\0"), DENIED),
        (read("\0", "\0"), DENIED),
        (read("y", "z"), Ok(())),
        // Ranges without keys.
        (read("b", "a"), Ok(())),
        (read("z", "a"), Ok(())),
        (read("e", "a"), DENIED),
        (write("a", "b"), Ok(())),
        (write("b", ""), DENIED),
        (write("a", "c"), DENIED),
        (write("k", ""), Ok(())),
        (write("k\0", ""), DENIED),
        (write("y", ""), DENIED),
        (
            Access::ReadWrite {
                key: b"a",
                range_end: b"b",
            },
            Ok(()),
        ),
        (
            Access::ReadWrite {
                key: b"b",
                range_end: b"",
            },
            DENIED,
        ),
        (read("", ""), DENIED),
    ];
    for (access, expected) in cases {
        assert_eq!(store.check(&user, access), expected, "{access:?}");
        assert_eq!(
            store.check(&identity(&store, "boss"), access),
            Ok(()),
            "{access:?}"
        );
    }
}

#[test]
fn nothing_is_asked_while_authentication_is_off() {
    let mut store = store();
    store.apply(&Request::AuthDisable(AuthDisableRequest {})).unwrap();
    for access in [
        read("z", ""),
        write("z", ""),
        Access::Admin,
        Access::Authenticated,
        Access::ReadUser("root"),
    ] {
        assert_eq!(store.check(&Identity::nobody(), access), Ok(()), "{access:?}");
    }
    let asked = Cell::new(false);
    let keys_of = |_: i64| {
        asked.set(true);
        Vec::new()
    };
    assert_eq!(store.check_lease_write(&Identity::nobody(), 1, &keys_of), Ok(()));
    assert!(
        !asked.get(),
        "the keys of a lease are listed only where they matter"
    );
    assert!(!store.is_root("root"));
}

#[test]
fn a_request_that_names_nobody_is_told_so() {
    let store = store();
    let all = [
        read("a", ""),
        write("a", ""),
        Access::Admin,
        Access::Authenticated,
        Access::ReadUser(""),
        Access::ReadRole("one"),
    ];
    for access in all {
        assert_eq!(
            store.check(&Identity::nobody(), access),
            Err(Error::UserEmpty),
            "{access:?}"
        );
        assert_eq!(
            store.check(&Identity::new("u", 0), access),
            Err(Error::UserEmpty),
            "{access:?}"
        );
        assert_eq!(
            store.check(&Identity::new("", 99), access),
            Err(Error::UserEmpty),
            "{access:?}"
        );
    }
    let nobody = Identity::nobody();
    assert_eq!(
        store.check_txn(&nobody, &TxnRequest::default(), &no_lease),
        Err(Error::UserEmpty)
    );
}

#[test]
fn unknown_users_are_denied() {
    let store = store();
    let stranger = identity(&store, "stranger");
    assert_eq!(store.check(&stranger, read("a", "")), DENIED);
    assert_eq!(store.check(&stranger, Access::Authenticated), DENIED);
    assert_eq!(store.check(&stranger, Access::Admin), Err(Error::UserNotFound));
}

#[test]
fn any_change_makes_key_access_under_an_older_revision_too_old() {
    let mut store = store();
    let (user, root) = (identity(&store, "u"), identity(&store, "root"));
    store.apply(&add_user("other")).unwrap();
    assert_eq!(store.check(&user, read("a", "")), Err(Error::AuthOldRevision));
    assert_eq!(store.check(&root, read("a", "")), Err(Error::AuthOldRevision));
    assert_eq!(store.check(&identity(&store, "u"), read("a", "")), Ok(()));
    // A member that lags behind sees identities from its future.
    assert_eq!(
        store.check(&Identity::new("u", store.revision() + 5), read("a", "")),
        Ok(())
    );
    // A script goes on with its token.
    assert_eq!(store.check(&root, Access::Admin), Ok(()));
    assert_eq!(store.check(&user, Access::Authenticated), Ok(()));
}

#[test]
fn a_token_from_before_a_new_password_opens_nothing() {
    let mut store = store();
    let old = identity(&store, "boss");
    store.apply(&change_password("boss")).unwrap();
    for access in [
        read("a", ""),
        Access::Admin,
        Access::Authenticated,
        Access::ReadUser("boss"),
    ] {
        assert_eq!(
            store.check(&old, access),
            Err(Error::AuthOldRevision),
            "{access:?}"
        );
    }
    let new = identity(&store, "boss");
    assert_eq!(store.check(&new, Access::Admin), Ok(()));
    // The same name, but another user.
    store
        .apply(&Request::AuthUserDelete(AuthUserDeleteRequest {
            name: "boss".into(),
        }))
        .unwrap();
    store.apply(&add_user("boss")).unwrap();
    store.apply(&grant_role("boss", "root")).unwrap();
    assert_eq!(store.check(&new, Access::Admin), Err(Error::AuthOldRevision));
}

#[test]
fn administration_takes_role_root_but_ones_own_user_and_roles_may_be_seen() {
    let store = store();
    let (user, root) = (identity(&store, "u"), identity(&store, "root"));
    let cases = [
        (Access::Admin, DENIED),
        (Access::Authenticated, Ok(())),
        (Access::ReadUser("u"), Ok(())),
        (Access::ReadUser("root"), DENIED),
        (Access::ReadUser("nobody"), DENIED),
        (Access::ReadRole("one"), Ok(())),
        (Access::ReadRole("root"), DENIED),
        (Access::ReadRole("nothing"), DENIED),
    ];
    for (access, expected) in cases {
        assert_eq!(store.check(&user, access), expected, "{access:?}");
        assert_eq!(store.check(&root, access), Ok(()), "{access:?}");
    }
    assert!(store.is_root("boss"));
    assert!(!store.is_root("u"));
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }
}

/// A store where `u` may only write [w, x), not read it.
fn write_only() -> AuthStore {
    let mut store = store();
    let perm = Permission {
        perm_type: Type::Write.into(),
        key: "w".into(),
        range_end: "x".into(),
    };
    let request = AuthRoleGrantPermissionRequest {
        name: "one".into(),
        perm: Some(perm),
    };
    store.apply(&Request::AuthRoleGrantPermission(request)).unwrap();
    store
}

#[test]
fn asking_for_the_previous_value_takes_read_permission() {
    let store = write_only();
    let user = identity(&store, "u");
    let with_previous = PutRequest {
        prev_kv: true,
        ..put("w")
    };
    assert_eq!(store.check_put(&user, &put("w"), &no_lease), Ok(()));
    assert_eq!(store.check_put(&user, &with_previous, &no_lease), DENIED);
    assert_eq!(store.check_delete(&user, &delete("w", "x")), Ok(()));
    assert_eq!(
        store.check_delete(
            &user,
            &DeleteRangeRequest {
                prev_kv: true,
                ..delete("w", "x")
            }
        ),
        DENIED
    );
    assert_eq!(
        store.check_put(
            &user,
            &PutRequest {
                prev_kv: true,
                ..put("a")
            },
            &no_lease
        ),
        Ok(())
    );
}

#[test]
fn sharing_or_ending_a_lease_takes_write_permission_on_all_its_keys() {
    let store = store();
    let user = identity(&store, "u");
    let keys_of = |lease: i64| -> Vec<Bytes> {
        match lease {
            1 => vec!["a1".into(), "k".into()],
            2 => vec!["a1".into(), "b".into()],
            _ => Vec::new(),
        }
    };
    let with_lease = |lease| PutRequest { lease, ..put("a") };
    assert_eq!(store.check_put(&user, &with_lease(1), &keys_of), Ok(()));
    assert_eq!(store.check_put(&user, &with_lease(2), &keys_of), DENIED);
    assert_eq!(store.check_put(&user, &with_lease(3), &keys_of), Ok(()));
    assert_eq!(store.check_lease_write(&user, 1, &keys_of), Ok(()));
    assert_eq!(store.check_lease_write(&user, 2, &keys_of), DENIED);
    assert_eq!(store.check_lease_read(&user, 2, &keys_of), Ok(()));
    assert_eq!(store.check_lease_read(&user, 2, &|_| vec!["c".into()]), DENIED);
    let unlisted = |_: i64| -> Vec<Bytes> { unreachable!("role root needs no list") };
    assert_eq!(
        store.check_lease_write(&identity(&store, "boss"), 2, &unlisted),
        Ok(())
    );
}

fn operation(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

#[test]
fn a_transaction_is_judged_by_everything_it_might_do() {
    let store = write_only();
    let user = identity(&store, "u");
    let range = |key: &'static str| RangeRequest {
        key: key.into(),
        ..Default::default()
    };
    let compare = |key: &'static str, end: &'static str| Compare {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    };
    let nested = |inner: Op| {
        Op::RequestTxn(TxnRequest {
            failure: vec![operation(inner)],
            ..Default::default()
        })
    };
    let keys_of = |_: i64| -> Vec<Bytes> { vec!["b".into()] };
    let cases = [
        (Op::RequestRange(range("a")), Ok(())),
        (Op::RequestRange(range("w")), DENIED),
        (Op::RequestPut(put("w")), Ok(())),
        (Op::RequestPut(put("b")), DENIED),
        (
            Op::RequestPut(PutRequest {
                prev_kv: true,
                ..put("w")
            }),
            DENIED,
        ),
        (Op::RequestPut(PutRequest { lease: 7, ..put("w") }), DENIED),
        (Op::RequestDeleteRange(delete("w", "x")), Ok(())),
        (
            Op::RequestDeleteRange(DeleteRangeRequest {
                prev_kv: true,
                ..delete("w", "x")
            }),
            DENIED,
        ),
        (nested(Op::RequestPut(put("w"))), Ok(())),
        (nested(Op::RequestPut(put("b"))), DENIED),
        (nested(nested(Op::RequestRange(range("w")))), DENIED),
    ];
    for (request, expected) in cases {
        let success = TxnRequest {
            success: vec![operation(request.clone())],
            ..Default::default()
        };
        let failure = TxnRequest {
            failure: vec![operation(request.clone())],
            ..Default::default()
        };
        assert_eq!(
            store.check_txn(&user, &success, &keys_of),
            expected,
            "{request:?}"
        );
        assert_eq!(
            store.check_txn(&user, &failure, &keys_of),
            expected,
            "{request:?}"
        );
        assert_eq!(
            store.check_txn(&identity(&store, "root"), &success, &keys_of),
            Ok(()),
            "{request:?}"
        );
    }
    for (compare, expected) in [
        (compare("a", "c"), Ok(())),
        (compare("w", ""), DENIED),
        (compare("a", "d"), DENIED),
    ] {
        let request = TxnRequest {
            compare: vec![compare],
            ..Default::default()
        };
        assert_eq!(store.check_txn(&user, &request, &keys_of), expected);
    }
    assert_eq!(store.check_txn(&user, &TxnRequest::default(), &keys_of), Ok(()));
    let empty = TxnRequest {
        success: vec![RequestOp { request: None }],
        ..Default::default()
    };
    assert_eq!(store.check_txn(&user, &empty, &keys_of), Ok(()));
}

#[test]
fn commands_of_the_log_ask_for_what_they_do() {
    let store = store();
    let (user, root) = (identity(&store, "u"), identity(&store, "root"));
    let alarm = |action: AlarmAction| {
        Request::Alarm(AlarmRequest {
            action: action.into(),
            ..Default::default()
        })
    };
    let cases = [
        (Request::Put(put("a")), Ok(())),
        (Request::Put(put("b")), DENIED),
        (Request::DeleteRange(delete("a", "b")), Ok(())),
        (Request::DeleteRange(delete("a", "c")), DENIED),
        (Request::Txn(TxnRequest::default()), Ok(())),
        (Request::Compaction(CompactionRequest::default()), DENIED),
        (Request::LeaseGrant(LeaseGrantRequest::default()), Ok(())),
        (Request::LeaseRevoke(LeaseRevokeRequest::default()), Ok(())),
        (Request::LeaseExpire(LeaseExpire::default()), DENIED),
        (Request::LeaderStarted(LeaderStarted::default()), DENIED),
        (alarm(AlarmAction::Get), Ok(())),
        (alarm(AlarmAction::Activate), DENIED),
        (alarm(AlarmAction::Deactivate), DENIED),
        (Request::AuthEnable(AuthEnableRequest {}), DENIED),
        (Request::AuthDisable(AuthDisableRequest {}), DENIED),
        (add_user("v"), DENIED),
        (change_password("u"), DENIED),
        (grant_role("u", "root"), DENIED),
    ];
    for (request, expected) in cases {
        assert_eq!(
            store.check_command(&user, &request, &no_lease),
            expected,
            "{request:?}"
        );
        assert_eq!(
            store.check_command(&root, &request, &no_lease),
            Ok(()),
            "{request:?}"
        );
        let nobody = store.check_command(&Identity::nobody(), &request, &no_lease);
        assert_eq!(nobody, Err(Error::UserEmpty), "{request:?}");
    }
}

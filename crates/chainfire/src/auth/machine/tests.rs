//! Each case is one history of commands and what etcd answers to it.

use super::*;
use crate::auth::ROOT;
use crate::wire::etcdserverpb::{AuthDisableRequest, AuthEnableRequest, PutRequest};

fn add_user(name: &str) -> Request {
    Request::AuthUserAdd(AuthUserAddRequest {
        name: name.into(),
        hashed_password: password::DECOY.into(),
        ..Default::default()
    })
}

fn add_user_without_password(name: &str) -> Request {
    Request::AuthUserAdd(AuthUserAddRequest {
        name: name.into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    })
}

fn delete_user(name: &str) -> Request {
    Request::AuthUserDelete(AuthUserDeleteRequest { name: name.into() })
}

fn change_password(name: &str) -> Request {
    Request::AuthUserChangePassword(AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password: password::DECOY.into(),
        ..Default::default()
    })
}

fn grant_role(user: &str, role: &str) -> Request {
    Request::AuthUserGrantRole(AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    })
}

fn revoke_role(user: &str, role: &str) -> Request {
    Request::AuthUserRevokeRole(AuthUserRevokeRoleRequest {
        name: user.into(),
        role: role.into(),
    })
}

fn add_role(name: &str) -> Request {
    Request::AuthRoleAdd(AuthRoleAddRequest { name: name.into() })
}

fn delete_role(name: &str) -> Request {
    Request::AuthRoleDelete(AuthRoleDeleteRequest { role: name.into() })
}

fn permission(perm_type: Type, key: &'static str, range_end: &'static str) -> Permission {
    Permission {
        perm_type: perm_type.into(),
        key: key.into(),
        range_end: range_end.into(),
    }
}

fn grant(role: &str, perm_type: Type, key: &'static str, range_end: &'static str) -> Request {
    let perm = Some(permission(perm_type, key, range_end));
    Request::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm,
    })
}

fn revoke(role: &str, key: &'static str, range_end: &'static str) -> Request {
    Request::AuthRoleRevokePermission(AuthRoleRevokePermissionRequest {
        role: role.into(),
        key: key.into(),
        range_end: range_end.into(),
    })
}

fn enable() -> Request {
    Request::AuthEnable(AuthEnableRequest {})
}

fn disable() -> Request {
    Request::AuthDisable(AuthDisableRequest {})
}

/// The column family that a store's changes are written to.
type Family = BTreeMap<Vec<u8>, Vec<u8>>;

fn write(family: &mut Family, changes: Vec<Change>) {
    for change in changes {
        match change.value {
            Some(value) => family.insert(change.key, value),
            None => family.remove(&change.key),
        };
    }
}

/// Everything a store holds, hashes too.
fn contents(store: &AuthStore) -> (bool, u64, Vec<(User, u64)>, Vec<Role>) {
    let users = store
        .accounts
        .values()
        .map(|account| (account.user.clone(), account.since))
        .collect();
    (
        store.enabled,
        store.revision,
        users,
        store.roles.values().cloned().collect(),
    )
}

/// Carries out commands in turn, each with the expected answer and how far the revision moves, and checks after each that a
/// refused command changes nothing and that the written entries read back as the same store.
fn check(steps: &[(Request, Result<u64>)]) -> AuthStore {
    let mut store = AuthStore::default();
    let mut family = Family::new();
    for (index, (command, expected)) in steps.iter().enumerate() {
        let before = contents(&store);
        let answer = store.apply(command);
        let moved = answer
            .as_ref()
            .map(|_| store.revision() - before.1)
            .map_err(Clone::clone);
        assert_eq!(&moved, expected, "step {index}: {command:?}");
        match answer {
            Ok(outcome) => write(&mut family, outcome.changes),
            Err(_) => assert_eq!(
                contents(&store),
                before,
                "step {index} was refused and still changed something"
            ),
        }
        let loaded = AuthStore::load(&family).unwrap();
        assert_eq!(contents(&loaded), contents(&store), "step {index} reads back");
        for (name, account) in &store.accounts {
            let back = &loaded.accounts[name];
            assert_eq!(
                (back.is_root, &back.readable),
                (account.is_root, &account.readable),
                "{name}"
            );
            assert_eq!(back.writable, account.writable, "{name}");
        }
    }
    store
}

#[test]
fn a_new_store_is_off_and_at_revision_one() {
    let store = AuthStore::default();
    let status = store.status();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    assert_eq!(
        contents(&AuthStore::load(&Family::new()).unwrap()),
        contents(&store)
    );
}

#[test]
fn enabling_needs_user_root_with_role_root_and_does_not_count() {
    let store = check(&[
        (enable(), Err(Error::RootUserNotExist)),
        (add_user(ROOT), Ok(1)),
        (enable(), Err(Error::RootRoleNotExist)),
        // Role root can be granted although nobody added it.
        (grant_role(ROOT, ROOT), Ok(1)),
        (enable(), Ok(0)),
        (enable(), Ok(0)),
        (disable(), Ok(1)),
        (disable(), Ok(0)),
    ]);
    assert!(!store.enabled());
    assert_eq!(store.revision(), 4);
    assert_eq!(store.role_get(ROOT), Err(Error::RoleNotFound));
}

#[test]
fn users_are_added_and_deleted_once() {
    let store = check(&[
        (add_user(""), Err(Error::UserEmpty)),
        (add_user("u"), Ok(1)),
        (add_user("u"), Err(Error::UserExists)),
        (add_user_without_password("a"), Ok(1)),
        (change_password("u"), Ok(1)),
        (change_password("a"), Ok(1)),
        (change_password("nobody"), Err(Error::UserNotFound)),
        (delete_user("u"), Ok(1)),
        (delete_user("u"), Err(Error::UserNotFound)),
        (add_user("b"), Ok(1)),
    ]);
    assert_eq!(store.user_list().users, ["a", "b"]);
    assert_eq!(store.user_get("u"), Err(Error::UserNotFound));
    assert_eq!(
        store.accounts["a"].user.password, "",
        "a user without password does not get one"
    );
}

#[test]
fn roles_are_granted_sorted_and_once() {
    let store = check(&[
        (add_role(""), Err(Error::RoleEmpty)),
        (add_role("r"), Ok(1)),
        (add_role("r"), Err(Error::RoleExists)),
        (add_role("b"), Ok(1)),
        (add_user("u"), Ok(1)),
        (grant_role("nobody", "r"), Err(Error::UserNotFound)),
        (grant_role("nobody", ROOT), Err(Error::UserNotFound)),
        (grant_role("u", "nothing"), Err(Error::RoleNotFound)),
        (grant_role("u", "r"), Ok(1)),
        (grant_role("u", "r"), Ok(0)),
        (grant_role("u", "b"), Ok(1)),
        (grant_role("u", ROOT), Ok(1)),
        (revoke_role("nobody", "r"), Err(Error::UserNotFound)),
        (revoke_role("u", "nothing"), Err(Error::RoleNotGranted)),
        (revoke_role("u", ROOT), Ok(1)),
        (revoke_role("u", ROOT), Err(Error::RoleNotGranted)),
    ]);
    assert_eq!(store.user_get("u").unwrap().roles, ["b", "r"]);
    assert_eq!(store.role_list().roles, ["b", "r"]);
}

#[test]
fn deleting_a_role_takes_it_from_its_users() {
    let store = check(&[
        (add_role("r"), Ok(1)),
        (grant("r", Type::Readwrite, "a", "b"), Ok(1)),
        (add_user("u"), Ok(1)),
        (add_user("v"), Ok(1)),
        (grant_role("u", "r"), Ok(1)),
        (delete_role("r"), Ok(1)),
        (delete_role("r"), Err(Error::RoleNotFound)),
        // Added again it is another role, which nobody has.
        (add_role("r"), Ok(1)),
    ]);
    assert_eq!(store.user_get("u").unwrap().roles, Vec::<String>::new());
    assert_eq!(store.accounts["u"].readable, Ranges::default());
}

#[test]
fn what_keeps_root_in_charge_stays_while_authentication_is_on() {
    check(&[
        (add_user(ROOT), Ok(1)),
        (add_role(ROOT), Ok(1)),
        (grant_role(ROOT, ROOT), Ok(1)),
        (enable(), Ok(0)),
        (delete_user(ROOT), Err(Error::InvalidAuthManagement)),
        (delete_role(ROOT), Err(Error::InvalidAuthManagement)),
        (revoke_role(ROOT, ROOT), Err(Error::InvalidAuthManagement)),
        (change_password(ROOT), Ok(1)),
        (disable(), Ok(1)),
        (revoke_role(ROOT, ROOT), Ok(1)),
        (delete_role(ROOT), Ok(1)),
        (delete_user(ROOT), Ok(1)),
    ]);
}

#[test]
fn permissions_are_kept_sorted_and_replaced_by_range() {
    let store = check(&[
        (grant("r", Type::Read, "a", "b"), Err(Error::RoleNotFound)),
        (add_role("r"), Ok(1)),
        (grant("r", Type::Read, "b", "c"), Ok(1)),
        (grant("r", Type::Read, "a", "z"), Ok(1)),
        (grant("r", Type::Readwrite, "a", "b"), Ok(1)),
        (grant("r", Type::Write, "a", "b"), Ok(1)),
        // The same again still counts.
        (grant("r", Type::Write, "a", "b"), Ok(1)),
        (grant("r", Type::Read, "a", ""), Ok(1)),
        (grant("r", Type::Read, "f", "\0"), Ok(1)),
        (revoke("r", "a", "zz"), Err(Error::PermissionNotGranted)),
        (revoke("r", "b", ""), Err(Error::PermissionNotGranted)),
        (revoke("nothing", "b", ""), Err(Error::RoleNotFound)),
        (revoke("r", "a", "z"), Ok(1)),
        (revoke("r", "a", "z"), Err(Error::PermissionNotGranted)),
    ]);
    let expected = [
        permission(Type::Read, "a", ""),
        permission(Type::Write, "a", "b"),
        permission(Type::Read, "b", "c"),
        permission(Type::Read, "f", "\0"),
    ];
    assert_eq!(store.role_get("r").unwrap().perm, expected);
    assert_eq!(store.role_get("nothing"), Err(Error::RoleNotFound));
}

#[test]
fn permissions_without_keys_or_type_are_refused() {
    let missing = Request::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: None,
    });
    let odd = Permission {
        perm_type: 7,
        ..permission(Type::Read, "a", "")
    };
    let untyped = Request::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: Some(odd),
    });
    check(&[
        (add_role("r"), Ok(1)),
        (missing, Err(Error::PermissionNotGiven)),
        (grant("r", Type::Read, "", "b"), Err(Error::InvalidAuthManagement)),
        (
            grant("r", Type::Read, "b", "a"),
            Err(Error::InvalidAuthManagement),
        ),
        (
            grant("r", Type::Read, "b", "b"),
            Err(Error::InvalidAuthManagement),
        ),
        (untyped, Err(Error::InvalidAuthManagement)),
        (grant("r", Type::Read, "\0", "\0"), Ok(1)),
    ]);
}

#[test]
fn role_root_shows_everything_whatever_was_granted_to_it() {
    let store = check(&[(add_role(ROOT), Ok(1)), (grant(ROOT, Type::Read, "a", ""), Ok(1))]);
    assert_eq!(
        store.role_get(ROOT).unwrap().perm,
        [permission(Type::Readwrite, "", "\0")]
    );
}

#[test]
fn commands_with_plain_passwords_or_no_hash_are_refused() {
    let plain = AuthUserAddRequest {
        name: "u".into(),
        password: "secret".into(),
        hashed_password: password::DECOY.into(),
        ..Default::default()
    };
    let mut store = AuthStore::default();
    let refused = store.apply(&Request::AuthUserAdd(plain)).unwrap_err();
    assert!(!refused.to_string().contains("secret"), "{refused}");
    let unhashed = AuthUserAddRequest {
        name: "u".into(),
        hashed_password: "x".into(),
        ..Default::default()
    };
    assert!(matches!(
        store.apply(&Request::AuthUserAdd(unhashed)),
        Err(Error::Invalid(_))
    ));
    assert!(store.apply(&Request::Put(PutRequest::default())).is_err());
    assert_eq!(store.revision(), 1);
}

#[test]
fn tokens_are_voided_where_they_must_be() {
    let mut store = check(&[
        (add_user(ROOT), Ok(1)),
        (add_user("u"), Ok(1)),
        (add_role("r"), Ok(1)),
        (grant_role(ROOT, ROOT), Ok(1)),
        (enable(), Ok(0)),
    ]);
    let cases = [
        (grant_role("u", "r"), Tokens::Keep),
        (revoke_role("u", "r"), Tokens::Keep),
        (enable(), Tokens::Keep),
        (change_password("u"), Tokens::DropUser("u".into())),
        (delete_user("u"), Tokens::DropUser("u".into())),
        (disable(), Tokens::DropAll),
        (disable(), Tokens::Keep),
    ];
    for (command, expected) in cases {
        assert_eq!(store.apply(&command).unwrap().tokens, expected, "{command:?}");
    }
}

#[test]
fn each_command_writes_what_it_changed_and_the_revision() {
    let mut store = check(&[
        (add_role("r"), Ok(1)),
        (add_user("u"), Ok(1)),
        (add_user("v"), Ok(1)),
        (grant_role("u", "r"), Ok(1)),
        (grant_role("v", "r"), Ok(1)),
    ]);
    let keys = |outcome: Outcome| -> Vec<String> {
        outcome
            .changes
            .into_iter()
            .map(|change| String::from_utf8(change.key).unwrap())
            .collect()
    };
    assert_eq!(
        keys(store.apply(&delete_role("r")).unwrap()),
        ["role/r", "user/u", "user/v", "meta"]
    );
    assert_eq!(keys(store.apply(&delete_user("u")).unwrap()), ["user/u", "meta"]);
    assert_eq!(keys(store.apply(&disable()).unwrap()), Vec::<String>::new());
}

#[test]
fn a_login_is_verified_against_the_stored_hash_only() {
    let hashed = password::hash("secret", &crate::auth::system_entropy()).unwrap();
    let add = AuthUserAddRequest {
        name: "u".into(),
        hashed_password: hashed,
        ..Default::default()
    };
    let mut store = check(&[(add_user(ROOT), Ok(1)), (grant_role(ROOT, ROOT), Ok(1))]);
    store.apply(&Request::AuthUserAdd(add)).unwrap();
    store.apply(&add_user_without_password("nopw")).unwrap();
    assert_eq!(store.credential("u").unwrap_err(), Error::AuthNotEnabled);
    store.apply(&enable()).unwrap();

    let credential = store.credential("u").unwrap();
    assert_eq!((credential.user(), credential.revision()), ("u", 5));
    assert_eq!(credential.verify("secret"), Ok(()));
    for (user, given) in [
        ("u", "Secret"),
        ("u", ""),
        ("nopw", ""),
        ("nopw", "x"),
        ("nobody", "secret"),
        ("", "x"),
    ] {
        assert_eq!(
            store.credential(user).unwrap().verify(given),
            Err(Error::AuthFailed),
            "{user:?} {given:?}"
        );
    }
}

#[test]
fn damaged_entries_are_refused_by_name() {
    let mut store = AuthStore::default();
    let mut family = Family::new();
    write(&mut family, store.apply(&add_user("u")).unwrap().changes);
    write(&mut family, store.apply(&add_role("r")).unwrap().changes);
    let (user, role) = (family[&b"user/u"[..]].clone(), family[&b"role/r"[..]].clone());
    let cases: [(&[u8], Vec<u8>, &str); 6] = [
        (b"user/u", vec![0xff], "user/u"),
        (b"user/w", user.clone(), "user/w"),
        (b"user/u", Vec::new(), "user/u"),
        (b"role/x", role, "role/x"),
        (b"meta", vec![0xff], "meta"),
        (b"other\xff", Vec::new(), "other\\xff"),
    ];
    for (key, value, named) in cases {
        let mut damaged = family.clone();
        damaged.insert(key.to_vec(), value);
        let error = AuthStore::load(&damaged).unwrap_err();
        assert!(
            matches!(&error, Error::Local(text) if text.contains(named)),
            "{error}"
        );
    }
    family.remove(&b"meta"[..]);
    assert!(AuthStore::load(&family).unwrap_err().to_string().contains("meta"));
}

#[test]
fn nothing_printed_shows_a_hash() {
    let mut store = AuthStore::default();
    let outcome = store.apply(&add_user("u")).unwrap();
    store.apply(&add_user(ROOT)).unwrap();
    store.apply(&grant_role(ROOT, ROOT)).unwrap();
    store.apply(&enable()).unwrap();
    let shown = format!("{store:?} {outcome:?} {:?}", store.credential("u").unwrap());
    assert!(!shown.contains("argon2"), "{shown}");
    assert!(shown.contains("user/u"), "{shown}");
}

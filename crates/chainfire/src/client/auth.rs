//! `auth`, `user` and `role`: as `etcdctl` has them, with the same texts.

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use terminal::Table;

use super::cli::Context;
use super::failure::{Failure, Result};
use super::kv::prefix_end;
use super::output::{Text, column};
use super::{argument, kv, password};
use crate::wire::authpb::permission::Type;
use crate::wire::authpb::{Permission, UserAddOptions};
use crate::wire::etcdserverpb as pb;

/// The user and the role that may do everything.
const ROOT: &str = "root";

/// Auth commands.
#[derive(Debug, Subcommand)]
pub(super) enum Auth {
    /// Ask for a login from now on; user root must exist, and gets role root
    #[command(after_help = "Example:\n  chainfire-client auth enable")]
    Enable,
    /// Serve everybody from now on
    #[command(after_help = "Example:\n  chainfire-client auth disable --user root")]
    Disable,
    /// Print whether authentication is on
    #[command(after_help = "Example:\n  chainfire-client auth status")]
    Status,
}

/// User commands.
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add a user
    #[command(after_help = "Examples:\n  chainfire-client user add alice\n  \
                      chainfire-client user add alice --interactive=false < password\n  \
                      chainfire-client user add backup --no-password")]
    Add(Add),
    /// Delete a user
    #[command(after_help = "Example:\n  chainfire-client user delete alice")]
    Delete(UserName),
    /// Print the roles of a user
    #[command(after_help = "Example:\n  chainfire-client user get alice --detail")]
    Get(UserGet),
    /// List all users
    #[command(after_help = "Example:\n  chainfire-client user list")]
    List,
    /// Change the password of a user
    #[command(after_help = "Example:\n  chainfire-client user passwd alice")]
    Passwd(Passwd),
    /// Give a role to a user
    #[command(after_help = "Example:\n  chainfire-client user grant-role alice readers")]
    GrantRole(UserRole),
    /// Take a role from a user
    #[command(after_help = "Example:\n  chainfire-client user revoke-role alice readers")]
    RevokeRole(UserRole),
}

/// Role commands.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// Add a role
    #[command(after_help = "Example:\n  chainfire-client role add readers")]
    Add(RoleName),
    /// Delete a role
    #[command(after_help = "Example:\n  chainfire-client role delete readers")]
    Delete(RoleName),
    /// Print what a role permits
    #[command(after_help = "Example:\n  chainfire-client role get readers")]
    Get(RoleName),
    /// List all roles
    #[command(after_help = "Example:\n  chainfire-client role list")]
    List,
    /// Permit reading or writing of keys
    #[command(
        after_help = "Example:\n  chainfire-client role grant-permission readers read --prefix config/"
    )]
    GrantPermission(Grant),
    /// Take a permission back
    #[command(after_help = "Example:\n  chainfire-client role revoke-permission readers --prefix config/")]
    RevokePermission(Revoke),
}

/// User add arguments.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// Name of the user; a password after `:` can be seen by others in the list of processes
    #[arg(value_name = "NAME[:PASSWORD]")]
    user: String,
    /// Password; others can see it in the list of processes
    #[arg(long, value_name = "PASSWORD", conflicts_with = "no_password")]
    new_user_password: Option<String>,
    /// A user who can log in with a certificate only
    #[arg(long)]
    no_password: bool,
    /// Ask for the password at the terminal; `false` reads it from standard input
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
}

/// User passwd arguments.
#[derive(Debug, Args)]
pub(super) struct Passwd {
    /// Name of the user; a password after `:` can be seen by others in the list of processes
    #[arg(value_name = "NAME[:PASSWORD]")]
    user: String,
    /// Ask for the password at the terminal; `false` reads it from standard input
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
}

/// A user.
#[derive(Debug, Args)]
pub(super) struct UserName {
    /// Name of the user
    user: String,
}

/// User get arguments.
#[derive(Debug, Args)]
pub(super) struct UserGet {
    /// Name of the user
    user: String,
    /// Print what the user's roles permit, too
    #[arg(long)]
    detail: bool,
}

/// A user and a role.
#[derive(Debug, Args)]
pub(super) struct UserRole {
    /// Name of the user
    user: String,
    /// Name of the role
    role: String,
}

/// A role.
#[derive(Debug, Args)]
pub(super) struct RoleName {
    /// Name of the role
    role: String,
}

/// What may be done.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Access {
    Read,
    Write,
    #[value(name = "readwrite")]
    ReadWrite,
}

/// The keys of a permission.
#[derive(Debug, Args)]
struct Keys {
    /// Key, or first key of a range
    #[arg(value_parser = argument::bytes())]
    key: Bytes,
    /// End of the range; not part of it
    #[arg(value_parser = argument::bytes(), conflicts_with_all = ["prefix", "from_key"])]
    end: Option<Bytes>,
    /// Every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
}

impl Keys {
    fn range(self) -> (Bytes, Bytes) {
        kv::range(self.key, self.end, self.prefix, self.from_key)
    }
}

/// Grant permission arguments.
#[derive(Debug, Args)]
pub(super) struct Grant {
    /// Name of the role
    role: String,
    /// What to permit
    access: Access,
    #[command(flatten)]
    keys: Keys,
}

/// Revoke permission arguments.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// Name of the role
    role: String,
    #[command(flatten)]
    keys: Keys,
}

pub(super) async fn auth(command: Auth, context: &mut Context) -> Result<()> {
    match command {
        Auth::Enable => enable(context).await,
        Auth::Disable => {
            let session = context.open().await?;
            let reply = session
                .ask(session.auth().auth_disable(pb::AuthDisableRequest {}))
                .await?;
            context
                .printer
                .reply(&reply, |text| text.line("Authentication Disabled"))
        }
        Auth::Status => {
            let session = context.open().await?;
            let reply = session
                .ask(session.auth().auth_status(pb::AuthStatusRequest {}))
                .await?;
            context.printer.reply(&reply, |text| {
                text.line(format_args!("Authentication Status: {}", reply.enabled));
                text.line(format_args!("AuthRevision: {}", reply.auth_revision));
            })
        }
    }
}

/// Enables; gives user root the role root when that is what is missing, as `etcdctl` does.
async fn enable(context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let enable = || async {
        session
            .ask(session.auth().auth_enable(pb::AuthEnableRequest {}))
            .await
    };
    let reply = match enable().await {
        Err(Failure::Refused(text)) if text == "etcdserver: root user does not have root role" => {
            let add = pb::AuthRoleAddRequest {
                name: ROOT.to_owned(),
            };
            match session.ask(session.auth().role_add(add)).await {
                Err(Failure::Refused(text)) if text == "etcdserver: role name already exists" => {}
                added => drop(added?),
            }
            let grant = pb::AuthUserGrantRoleRequest {
                user: ROOT.to_owned(),
                role: ROOT.to_owned(),
            };
            session.ask(session.auth().user_grant_role(grant)).await?;
            enable().await?
        }
        reply => reply?,
    };
    context
        .printer
        .reply(&reply, |text| text.line("Authentication Enabled"))
}

pub(super) async fn user(command: User, context: &mut Context) -> Result<()> {
    match command {
        User::Add(arguments) => user_add(arguments, context).await,
        User::Delete(UserName { user }) => {
            let session = context.open().await?;
            let request = pb::AuthUserDeleteRequest { name: user.clone() };
            let reply = session.ask(session.auth().user_delete(request)).await?;
            context
                .printer
                .reply(&reply, |text| text.line(format_args!("User {user} deleted")))
        }
        User::Get(arguments) => user_get(arguments, context).await,
        User::List => {
            let session = context.open().await?;
            let reply = session
                .ask(session.auth().user_list(pb::AuthUserListRequest {}))
                .await?;
            context.printer.listing(
                &reply,
                |text| reply.users.iter().for_each(|user| text.line(user)),
                |_| column("USER", reply.users.clone()),
            )
        }
        User::Passwd(Passwd { user, interactive }) => {
            let (user, password) = match user.split_once(':') {
                Some((_, "")) => return Err(Failure::usage("user passwd: the password is empty")),
                Some((name, password)) => (name.to_owned(), password.to_owned()),
                None => {
                    let password = new_password(&user, interactive, context)?;
                    (user, password)
                }
            };
            let session = context.open().await?;
            let request = pb::AuthUserChangePasswordRequest {
                name: user,
                password,
                ..Default::default()
            };
            let reply = session.ask(session.auth().user_change_password(request)).await?;
            context
                .printer
                .reply(&reply, |text| text.line("Password updated"))
        }
        User::GrantRole(UserRole { user, role }) => {
            let session = context.open().await?;
            let request = pb::AuthUserGrantRoleRequest {
                user: user.clone(),
                role: role.clone(),
            };
            let reply = session.ask(session.auth().user_grant_role(request)).await?;
            context.printer.reply(&reply, |text| {
                text.line(format_args!("Role {role} is granted to user {user}"));
            })
        }
        User::RevokeRole(UserRole { user, role }) => {
            let session = context.open().await?;
            let request = pb::AuthUserRevokeRoleRequest {
                name: user.clone(),
                role: role.clone(),
            };
            let reply = session.ask(session.auth().user_revoke_role(request)).await?;
            context.printer.reply(&reply, |text| {
                text.line(format_args!("Role {role} is revoked from user {user}"));
            })
        }
    }
}

async fn user_add(arguments: Add, context: &mut Context) -> Result<()> {
    let (name, written) = match arguments.user.split_once(':') {
        Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
        None => (arguments.user, arguments.new_user_password),
    };
    if name.is_empty() {
        return Err(Failure::usage("user add: the name is empty"));
    }
    let password = match written {
        Some(_) if arguments.no_password => {
            return Err(Failure::usage(
                "user add: a password beside --no-password, want one of them",
            ));
        }
        _ if arguments.no_password => String::new(),
        Some(password) if password.is_empty() => {
            return Err(Failure::usage("user add: the password is empty"));
        }
        Some(password) => password,
        None => new_password(&name, arguments.interactive, context)?,
    };
    let session = context.open().await?;
    let request = pb::AuthUserAddRequest {
        name: name.clone(),
        password,
        options: Some(UserAddOptions {
            no_password: arguments.no_password,
        }),
        ..Default::default()
    };
    let reply = session.ask(session.auth().user_add(request)).await?;
    context
        .printer
        .reply(&reply, |text| text.line(format_args!("User {name} created")))
}

fn new_password(user: &str, interactive: bool, context: &mut Context) -> Result<String> {
    if interactive {
        password::ask_twice(user)
    } else {
        password::read_line(&mut *context.input)
    }
}

async fn user_get(UserGet { user, detail }: UserGet, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(
            session
                .auth()
                .user_get(pb::AuthUserGetRequest { name: user.clone() }),
        )
        .await?;
    if !detail {
        return context.printer.listing(
            &reply,
            |text| {
                let roles: String = reply.roles.iter().flat_map(|role| [" ", role]).collect();
                text.line(format_args!("User: {user}"));
                text.line(format_args!("Roles:{roles}"));
            },
            |_| column("ROLE", reply.roles.clone()),
        );
    }
    context
        .printer
        .text(|text| text.line(format_args!("User: {user}")))?;
    for role in reply.roles {
        context.printer.text(|text| text.line(""))?;
        role_get(&role, context).await?;
    }
    Ok(())
}

pub(super) async fn role(command: Role, context: &mut Context) -> Result<()> {
    match command {
        Role::Add(RoleName { role }) => {
            let session = context.open().await?;
            let reply = session
                .ask(
                    session
                        .auth()
                        .role_add(pb::AuthRoleAddRequest { name: role.clone() }),
                )
                .await?;
            context
                .printer
                .reply(&reply, |text| text.line(format_args!("Role {role} created")))
        }
        Role::Delete(RoleName { role }) => {
            let session = context.open().await?;
            let request = pb::AuthRoleDeleteRequest { role: role.clone() };
            let reply = session.ask(session.auth().role_delete(request)).await?;
            context
                .printer
                .reply(&reply, |text| text.line(format_args!("Role {role} deleted")))
        }
        Role::Get(RoleName { role }) => role_get(&role, context).await,
        Role::List => {
            let session = context.open().await?;
            let reply = session
                .ask(session.auth().role_list(pb::AuthRoleListRequest {}))
                .await?;
            context.printer.listing(
                &reply,
                |text| reply.roles.iter().for_each(|role| text.line(role)),
                |_| column("ROLE", reply.roles.clone()),
            )
        }
        Role::GrantPermission(arguments) => grant(arguments, context).await,
        Role::RevokePermission(arguments) => revoke(arguments, context).await,
    }
}

async fn grant(Grant { role, access, keys }: Grant, context: &mut Context) -> Result<()> {
    let (key, range_end) = keys.range();
    let perm_type = match access {
        Access::Read => Type::Read,
        Access::Write => Type::Write,
        Access::ReadWrite => Type::Readwrite,
    };
    let permission = Permission {
        perm_type: perm_type.into(),
        key,
        range_end,
    };
    let session = context.open().await?;
    let request = pb::AuthRoleGrantPermissionRequest {
        name: role.clone(),
        perm: Some(permission),
    };
    let reply = session.ask(session.auth().role_grant_permission(request)).await?;
    context
        .printer
        .reply(&reply, |text| text.line(format_args!("Role {role} updated")))
}

async fn revoke(Revoke { role, keys }: Revoke, context: &mut Context) -> Result<()> {
    let (key, range_end) = keys.range();
    let session = context.open().await?;
    let request = pb::AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key: key.clone(),
        range_end: range_end.clone(),
    };
    let reply = session
        .ask(session.auth().role_revoke_permission(request))
        .await?;
    context.printer.reply(&reply, |text| {
        let (key, end) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&range_end));
        match &*end {
            "" => text.line(format_args!(
                "Permission of key {key} is revoked from role {role}"
            )),
            "\0" => text.line(format_args!(
                "Permission of range [{key}, <open ended> is revoked from role {role}"
            )),
            _ => text.line(format_args!(
                "Permission of range [{key}, {end}) is revoked from role {role}"
            )),
        }
    })
}

async fn role_get(role: &str, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.auth().role_get(pb::AuthRoleGetRequest {
            role: role.to_owned(),
        }))
        .await?;
    context.printer.listing(
        &reply,
        |text| {
            text.line(format_args!("Role {role}"));
            for (title, one) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
                text.line(title);
                reply
                    .perm
                    .iter()
                    .filter(|permission| [one, Type::Readwrite].contains(&permission.perm_type()))
                    .for_each(|permission| write_range(text, permission));
            }
        },
        |shown| {
            let mut table = Table::new(["ACCESS", "KEY", "RANGE_END"]);
            for permission in &reply.perm {
                table.row([
                    permission.perm_type().as_str_name().to_owned(),
                    shown.bytes(&permission.key),
                    shown.bytes(&permission.range_end),
                ]);
            }
            table
        },
    )
}

fn write_range(text: &mut Text, permission: &Permission) {
    let (key, end) = (
        String::from_utf8_lossy(&permission.key),
        String::from_utf8_lossy(&permission.range_end),
    );
    let prefix = if !permission.key.is_empty() && prefix_end(&permission.key) == permission.range_end {
        format!(" (prefix {key})")
    } else {
        String::new()
    };
    match &*end {
        "" => text.line(format_args!("\t{key}")),
        "\0" => text.line(format_args!("\t[{key}, <open ended>{prefix}")),
        _ => text.line(format_args!("\t[{key}, {end}){prefix}")),
    }
}

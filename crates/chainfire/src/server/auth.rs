//! Users and roles: who may manage them, and passwords into tokens.

use std::pin::Pin;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::Server;
use crate::auth::{Access, Credential, password};
use crate::error::Error;
use crate::wire::etcdserverpb::auth_server::Auth;
use crate::wire::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse,
    ResponseHeader,
};
use crate::wire::logpb::TokenGiven;
use crate::wire::logpb::command::Request as Command;

/// Passwords hashed or verified at a time. Each takes a core and 19 MiB for tens of milliseconds, so a flood of logins must
/// not take them all.
static HASHING: Semaphore = Semaphore::const_new(2);

/// Calls that change users or roles: name of the call, its messages, the command, and the reply made of a header.
macro_rules! changes {
    ($($method:ident, $name:literal, $request:ty => $response:ident, $command:ident;)*) => {
        $(
            // Spelled out as `async_trait` would, which does not look into macros.
            fn $method<'a, 'async_trait>(
                &'a self,
                request: Request<$request>,
            ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>>
            where
                'a: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(self.calls.count($name, async move {
                    let header = Some(self.change(request, Command::$command).await?);
                    Ok($response { header })
                }))
            }
        )*
    };
}

#[tonic::async_trait]
impl Auth for Server {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        self.calls
            .count("Authenticate", async {
                let AuthenticateRequest { name, password } = request.into_inner();
                let token = self.log_in(&name, password).await?;
                Ok(AuthenticateResponse {
                    header: Some(self.auth_header()),
                    token,
                })
            })
            .await
    }

    async fn user_add(
        &self,
        request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        self.calls
            .count("UserAdd", async {
                // Hashing is expensive: only for those who may.
                self.admin(&request)?;
                let (metadata, extensions, mut user) = request.into_parts();
                if user.name.is_empty() {
                    return Err(Error::UserEmpty.into());
                }
                let entropy = self.node.entropy.clone();
                let user = hashing(move || {
                    password::seal_user_add(&mut user, &entropy)?;
                    Ok(user)
                })
                .await?;
                let request = Request::from_parts(metadata, extensions, user);
                let header = Some(self.change(request, Command::AuthUserAdd).await?);
                Ok(AuthUserAddResponse { header })
            })
            .await
    }

    async fn user_change_password(
        &self,
        request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        self.calls
            .count("UserChangePassword", async {
                self.admin(&request)?;
                let (metadata, extensions, mut user) = request.into_parts();
                let entropy = self.node.entropy.clone();
                let user = hashing(move || {
                    password::seal_change(&mut user, &entropy)?;
                    Ok(user)
                })
                .await?;
                let request = Request::from_parts(metadata, extensions, user);
                let header = Some(self.change(request, Command::AuthUserChangePassword).await?);
                Ok(AuthUserChangePasswordResponse { header })
            })
            .await
    }

    changes! {
        auth_enable, "AuthEnable", AuthEnableRequest => AuthEnableResponse, AuthEnable;
        auth_disable, "AuthDisable", AuthDisableRequest => AuthDisableResponse, AuthDisable;
        user_delete, "UserDelete", AuthUserDeleteRequest => AuthUserDeleteResponse, AuthUserDelete;
        user_grant_role, "UserGrantRole", AuthUserGrantRoleRequest => AuthUserGrantRoleResponse, AuthUserGrantRole;
        user_revoke_role, "UserRevokeRole", AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse, AuthUserRevokeRole;
        role_add, "RoleAdd", AuthRoleAddRequest => AuthRoleAddResponse, AuthRoleAdd;
        role_delete, "RoleDelete", AuthRoleDeleteRequest => AuthRoleDeleteResponse, AuthRoleDelete;
        role_grant_permission, "RoleGrantPermission",
            AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse, AuthRoleGrantPermission;
        role_revoke_permission, "RoleRevokePermission",
            AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse, AuthRoleRevokePermission;
    }

    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        self.calls
            .count("AuthStatus", async {
                self.admin(&request)?;
                let status = self.node.machine.auth.read().status();
                Ok(AuthStatusResponse {
                    header: Some(self.auth_header()),
                    ..status
                })
            })
            .await
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        self.calls
            .count("UserGet", async {
                let identity = self.identify(request.metadata())?;
                let name = request.into_inner().name;
                let auth = self.node.machine.auth.read();
                auth.check(&identity, Access::ReadUser(&name))?;
                let user = auth.user_get(&name)?;
                Ok(AuthUserGetResponse {
                    header: Some(self.auth_header()),
                    ..user
                })
            })
            .await
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        self.calls
            .count("UserList", async {
                self.admin(&request)?;
                let users = self.node.machine.auth.read().user_list();
                Ok(AuthUserListResponse {
                    header: Some(self.auth_header()),
                    ..users
                })
            })
            .await
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        self.calls
            .count("RoleGet", async {
                let identity = self.identify(request.metadata())?;
                let name = request.into_inner().role;
                let auth = self.node.machine.auth.read();
                auth.check(&identity, Access::ReadRole(&name))?;
                let role = auth.role_get(&name)?;
                Ok(AuthRoleGetResponse {
                    header: Some(self.auth_header()),
                    ..role
                })
            })
            .await
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        self.calls
            .count("RoleList", async {
                self.admin(&request)?;
                let roles = self.node.machine.auth.read().role_list();
                Ok(AuthRoleListResponse {
                    header: Some(self.auth_header()),
                    ..roles
                })
            })
            .await
    }
}

impl Server {
    fn auth_header(&self) -> ResponseHeader {
        self.node.header(self.node.machine.mvcc.revision())
    }

    /// Sends a change of users or roles through the log.
    async fn change<T>(
        &self,
        request: Request<T>,
        command: fn(T) -> Command,
    ) -> Result<ResponseHeader, Error> {
        let identity = self.identify(request.metadata())?;
        let (_, revision) = self
            .node
            .propose(command(request.into_inner()), &identity)
            .await?;
        Ok(self.node.header(revision))
    }

    /// A token for who knows the password.
    async fn log_in(&self, name: &str, password: String) -> Result<String, Error> {
        loop {
            let credential = self.node.machine.auth.read().credential(name)?;
            let (credential, password) = {
                let password = password.clone();
                hashing(move || verify(credential, password)).await?
            };
            // Verifying took a while; a password that was right then may not be now.
            let revision = self.node.machine.auth.read().revision();
            if revision == credential.revision() {
                drop(password);
                let token = self.node.tokens.assign(name, revision, &*self.node.clock)?;
                if !self.node.raft.is_alone()
                    && let Some(fingerprint) = self.node.tokens.to_be_told(&token)
                {
                    let user = name.to_owned();
                    let given = TokenGiven { user, fingerprint };
                    self.node.propose_internal(Command::TokenGiven(given)).await?;
                }
                return Ok(token);
            }
        }
    }
}

fn verify(credential: Credential, password: String) -> Result<(Credential, String), Error> {
    credential.verify(&password)?;
    Ok((credential, password))
}

/// Runs expensive work on passwords beside the tasks that serve requests, little of it at a time.
async fn hashing<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let _turn = HASHING.acquire().await.map_err(|_| Error::Stopped)?;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Stopped)?
}

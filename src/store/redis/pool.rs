//! Owns the connections to a Redis of any kind, and describes in a sentence why one failed. Knows no key and no
//! command.

use std::{io, time::Duration};

use deadpool_redis::{
    ConnectionAddr, ConnectionInfo, PoolError, RedisConnectionInfo, cluster,
    redis::{
        AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind,
    },
    sentinel::{self, SentinelNodeConnectionInfo, SentinelServerType},
};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::{
    core::store_url::{RedisAddress, RedisKind},
    store::StoreError,
};

/// Time to connect, sentinels and sign-in included.
const CONNECT: Duration = Duration::from_secs(2);

/// Time for an answer. A batch takes some 10 ms: a server that is silent for this long hangs.
pub const ANSWER: Duration = Duration::from_secs(2);

/// Connections: one for writes, the others for reads.
const CONNECTIONS: usize = 8;

/// Connections to one Redis, made when they are needed.
pub enum RedisPool {
    /// One server.
    Server(deadpool_redis::Pool),
    /// The servers of a cluster.
    Cluster(cluster::Pool),
    /// The server that the sentinels call the master.
    Sentinel(sentinel::Pool),
}

/// One connection; dropped, it goes back to its pool.
pub enum Connection {
    /// One server.
    Server(deadpool_redis::Connection),
    /// The servers of a cluster.
    Cluster(cluster::Connection),
    /// The server that was the master when it was made.
    Sentinel(sentinel::Connection),
}

impl RedisPool {
    /// Prepares connections; makes none yet, so the servers may be down.
    pub fn new(address: &RedisAddress) -> Result<Self, StoreError> {
        let sign_in = sign_in(address);
        let hosts = |sign_in: RedisConnectionInfo| {
            let host = move |(host, port): &(String, u16)| ConnectionInfo {
                addr: ConnectionAddr::Tcp(host.clone(), *port),
                redis: sign_in.clone(),
            };
            address.hosts.iter().map(host).collect::<Vec<_>>()
        };
        let pool = match &address.kind {
            RedisKind::Server => {
                let limits = AsyncConnectionConfig::new();
                let limits = limits.set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
                let host = hosts(sign_in).into_iter().next().unwrap_or_default();
                let manager = deadpool_redis::Manager::new_with_config(host, limits).map_err(unusable)?;
                deadpool_redis::Pool::builder(manager).max_size(CONNECTIONS).build().map(Self::Server)
            }
            RedisKind::Cluster => {
                let manager = cluster::Manager::new(hosts(sign_in), false).map_err(unusable)?;
                cluster::Pool::builder(manager).max_size(CONNECTIONS).build().map(Self::Cluster)
            }
            RedisKind::Sentinel { master } => {
                let server = SentinelNodeConnectionInfo { tls_mode: None, redis_connection_info: Some(sign_in) };
                let sentinels = hosts(RedisConnectionInfo::default());
                let manager =
                    sentinel::Manager::new(sentinels, master.clone(), Some(server), SentinelServerType::Master);
                let manager = manager.map_err(unusable)?;
                sentinel::Pool::builder(manager).max_size(CONNECTIONS).build().map(Self::Sentinel)
            }
        };
        pool.map_err(|_| StoreError::Refused("no pool of connections to Redis can be made".into()))
    }

    /// Returns a connection that answers: one that is free, or a new one.
    pub async fn connection(&self) -> RedisResult<Connection> {
        let connection = async {
            match self {
                Self::Server(pool) => pool.get().await.map(Connection::Server),
                Self::Cluster(pool) => pool.get().await.map(Connection::Cluster),
                Self::Sentinel(pool) => {
                    let mut connection = pool.get().await?;
                    // The pool has no option for this: its connections would wait for half a second only.
                    connection.set_response_timeout(ANSWER);
                    Ok(Connection::Sentinel(connection))
                }
            }
        };
        match timeout(CONNECT, connection).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }
}

impl Connection {
    /// Sends a command and returns its answer.
    pub async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let answer = async {
            match self {
                Self::Server(connection) => command.query_async(connection).await,
                Self::Cluster(connection) => command.query_async(connection).await,
                Self::Sentinel(connection) => command.query_async(connection).await,
            }
        };
        timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// Sends commands in one go and returns their answers; in a cluster their keys lie in one slot.
    pub async fn ask_all<T: FromRedisValue>(&mut self, commands: &Pipeline) -> RedisResult<T> {
        let answers = async {
            match self {
                Self::Server(connection) => commands.query_async(connection).await,
                Self::Cluster(connection) => commands.query_async(connection).await,
                Self::Sentinel(connection) => commands.query_async(connection).await,
            }
        };
        timeout(ANSWER, answers).await.unwrap_or_else(|_| Err(late()))
    }

    /// Returns it to its pool once it answered, and closes it after a failure; returns the answer.
    pub fn settle<T, E>(self, answer: Result<T, E>) -> Result<T, E> {
        if answer.is_err() {
            self.discard();
        }
        answer
    }

    /// Closes it: after a failure it may lead to a server that hangs or is no longer the master.
    pub fn discard(self) {
        match self {
            Self::Server(connection) => drop(deadpool_redis::Connection::take(connection)),
            Self::Cluster(connection) => drop(cluster::Connection::take(connection)),
            Self::Sentinel(connection) => drop(sentinel::Connection::take(connection)),
        }
    }
}

fn sign_in(address: &RedisAddress) -> RedisConnectionInfo {
    let credentials = address.credentials.as_ref();
    RedisConnectionInfo {
        db: address.database.into(),
        username: credentials.and_then(|credentials| credentials.user.clone()),
        password: credentials.map(|credentials| credentials.password.0.expose_secret().to_owned()),
        ..RedisConnectionInfo::default()
    }
}

fn unusable(_: RedisError) -> StoreError {
    StoreError::Refused("the address of Redis cannot be used".into())
}

fn late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Describes the failure, without hosts and without the command.
pub fn failure(error: RedisError) -> StoreError {
    let sentence = match (error.kind(), error.code().unwrap_or_default()) {
        (_, "FENCED") => return StoreError::Superseded,
        _ if error.is_timeout() => "Redis does not answer",
        (ErrorKind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => "Redis refuses the user or password",
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => "Redis does not permit this user to write here",
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => "Redis is a read-only replica",
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => "Redis is still loading its data",
        (ErrorKind::Server(ServerErrorKind::MasterDown), _) => "Redis is a replica without its master",
        (_, "OOM") => "Redis has no memory left",
        (_, "MISCONF") => "Redis cannot save its data and takes no writes",
        (ErrorKind::MasterNameNotFoundBySentinel, _) => "the sentinels of Redis know no master of this name",
        (ErrorKind::ClusterConnectionNotFound, _) => "no server of the Redis cluster can be reached",
        _ if error.is_cluster_error() => "the Redis cluster has no server for some keys",
        (ErrorKind::Io, _) => "Redis cannot be reached",
        (_, "") => return StoreError::Refused("Redis answered what cannot be read".into()),
        (_, code) => return StoreError::Refused(format!("Redis answered {code}")),
    };
    StoreError::Unavailable(sentence.into())
}

//! A server in a container.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, GenericImage, ImageExt};

/// A Redis server in a container, which ends itself when this process has ended.
#[derive(Debug)]
pub(super) struct RedisContainer {
    url: String,
    _container: Container<GenericImage>,
    _watch: TcpStream,
}

impl RedisContainer {
    pub(super) fn run() -> Self {
        let container = GenericImage::new(IMAGE, TAG)
            .with_exposed_port(PORT.tcp())
            .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
            .with_cmd(["sh", "-c", SERVE])
            .with_host_config_modifier(|host| host.auto_remove = Some(true))
            .start()
            .unwrap_or_else(|error| {
                panic!("no Redis server is installed, and no Docker engine starts one: {error}")
            });
        let host = container.get_host().expect("a container that runs has a host");
        let port = container.get_host_port_ipv4(PORT).expect("its port is exposed");
        let watch = watch(&format!("{host}:{port}")).expect("the server takes connections");
        Self { url: format!("redis://{host}:{port}"), _container: container, _watch: watch }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }
}

/// The connection by which the container knows that this process lives.
fn watch(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"CLIENT SETNAME test\r\n")?;
    stream.read_exact(&mut [0; b"+OK\r\n".len()])?;
    Ok(stream)
}

const IMAGE: &str = "redis";
const TAG: &str = "8";
const PORT: u16 = 6379;

/// Serves until the connection named `test` is gone, or has not come within a minute. A server of a static value is
/// never dropped: this is what ends it.
const SERVE: &str = r#"
redis-server --save "" --appendonly no --protected-mode no &
watched() { redis-cli client list | grep -q ' name=test '; }
waited=0
until watched || [ "$waited" -ge 60 ]; do sleep 1; waited=$((waited + 1)); done
while watched; do sleep 1; done
"#;
